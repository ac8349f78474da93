"""The price list as Python programs read it: the one in force, or without a database the first.

Nothing is reckoned here: what a use of a model costs, `calculate_credit_cost` alone says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Self

import msgspec
import psycopg

from tallybook.settings import Settings

CONNECT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices are credits for 1,000 tokens, as floats: for people to read, and not to charge by."""

    version: int
    providers: dict[str, float]
    """Also `default`: the price of what has none."""
    models: dict[str, float]
    markups: dict[str, float]
    """What each tier adds, as a part of the price, from the smallest tier to the largest."""
    power_levels: dict[str, dict[str, Any]]
    """What each multiplies a price by, and what it asks of a model, from the cheapest on."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """From what the procedure `price_list` answers."""
        tiers = sorted(told["tiers"].items(), key=lambda item: item[1]["position"])
        levels = sorted(told["power_levels"].items(), key=lambda item: item[1]["cost_multiplier"])
        return cls(
            version=told["version"],
            providers=_by_price(told["providers"]) | {"default": float(told["default_price"])},
            models=_by_price(told["models"]),
            markups={name: float(tier["markup"]) for name, tier in tiers},
            power_levels={name: _power_level(level) for name, level in levels},
        )


@cache
def price_list() -> PriceList:
    """The price list in force when this is first asked, where DATABASE_URL names a database.

    Raises psycopg.Error when that cannot be asked: other prices than its own would mislead.
    """
    url = Settings.from_environment().database_url
    return PriceList.of(in_force(url) if url else shipped())


def in_force(url: str) -> dict[str, Any]:
    """What a database says of its prices now."""
    with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
        row = connection.execute("select public.price_list()").fetchone()
    answer: dict[str, Any] = row[0] if row else {}
    return answer


def shipped() -> dict[str, Any]:
    """The first price list, with which every database begins."""
    raw = resources.files("tallybook").joinpath("price_list.json").read_bytes()
    answer: dict[str, Any] = msgspec.json.decode(raw)
    return answer


def _by_price(prices: Mapping[str, float]) -> dict[str, float]:
    ordered = sorted(prices.items(), key=lambda item: (item[1], item[0]))
    return {name: float(price) for name, price in ordered}


def _power_level(level: Mapping[str, Any]) -> dict[str, Any]:
    whole = ("max_tokens",)
    return {
        name: float(value) if isinstance(value, int) and name not in whole else value
        for name, value in level.items()
    }

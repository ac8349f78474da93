"""The model of prices: what using a model costs, by power level and tier."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Final, NamedTuple

from tests.machine.model_purse import ZERO

PRICES: Final = {"gpt-4o": Decimal("0.015"), "llama3-8b-local": ZERO}
DEFAULT_PRICE: Final = Decimal("0.01")


class Level(NamedTuple):
    """A power level: what it multiplies, and what a reservation reckons with."""

    multiplier: Decimal
    tokens: int
    cost_max: Decimal


LEVELS: Final = {
    "eco": Level(Decimal("0.1"), 2000, Decimal("0.001")),
    "balanced": Level(Decimal("0.25"), 4000, Decimal("0.01")),
    "precision": Level(Decimal(1), 16000, Decimal("0.1")),
}


class Tier(NamedTuple):
    """On which terms somebody uses models. Who has no number of monthly credits may owe."""

    position: int
    markup: Decimal
    monthly: Decimal | None
    rollover_max: Decimal = ZERO


TIERS: Final = {
    "free": Tier(1, ZERO, ZERO),
    "starter": Tier(3, Decimal("0.4"), Decimal(20), Decimal(5)),
    "professional": Tier(4, Decimal("0.6"), Decimal(60)),
    "enterprise": Tier(5, Decimal("0.8"), None),
}
OWED_MAX: Final = Decimal(1_000_000_000)


def cost_of(tokens: int | None, model: str, level: str, tier: str) -> Decimal:
    """What using a model costs."""
    price = PRICES.get(model, DEFAULT_PRICE) * LEVELS[level].multiplier * (1 + TIERS[tier].markup)
    return (price * (tokens or 0) / 1000).quantize(Decimal("0.000001"), ROUND_HALF_UP)

"""The prices under the names by which programs know them.

    from litellm_credit_system import PRICING, MODEL_PRICING, TIER_MARKUP, POWER_LEVELS

They are those in force in the database that DATABASE_URL names, as they are when the first is
asked for, and without one the first price list. PRICING is of providers, with `default` for what
has no price.
"""

from __future__ import annotations

from typing import Any, Final

from tallybook.price_list import price_list

__all__ = ["MODEL_PRICING", "POWER_LEVELS", "PRICING", "TIER_MARKUP"]

MODEL_PRICING: dict[str, float]
POWER_LEVELS: dict[str, dict[str, Any]]
PRICING: dict[str, float]
TIER_MARKUP: dict[str, float]

_PARTS: Final = {
    "MODEL_PRICING": "models",
    "POWER_LEVELS": "power_levels",
    "PRICING": "providers",
    "TIER_MARKUP": "markups",
}


def __getattr__(name: str) -> Any:
    if name not in _PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(price_list(), _PARTS[name])

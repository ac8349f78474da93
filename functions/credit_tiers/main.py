"""credit-tiers/*: the tiers beside one another, and the way from one into another."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tallybook.body import Body, Name
from tallybook.caller import Caller
from tallybook.credits import (
    CUSTOMERS,
    ForCustomer,
    Model,
    PowerLevel,
    Tokens,
    is_on,
    remember_account,
    take_account,
)
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.logs import CREDITS_TIER_SWITCHED
from tallybook.route import Route

TIERS: Final = "/api/v1/credits/tiers"


class CompareTiers(ForCustomer):
    """Whose tier is theirs now, and the use of a model that is reckoned in every tier."""

    tokens_used: Tokens = 1000
    model: Model = "gpt-4o"
    power_level: PowerLevel = "balanced"


class SwitchTier(Body):
    """Into which tier; an administrator or a program says whose, by id or e-mail address."""

    tier: Name
    account: Annotated[str, Meta(min_length=1, max_length=320)] | None = msgspec.field(
        name="user_id", default=None
    )


def what_was_switched(
    _caller: Caller, _body: Any, answer: Answer
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """One line for a switch; none where the tier was theirs already."""
    if answer["tier"] != answer["previous_tier"]:
        yield CREDITS_TIER_SWITCHED, dict(answer)


compare = endpoint(
    Route(
        slug="credit-tiers/compare",
        paths=(f"GET {TIERS}/compare",),
        procedure="compare_tiers",
        body=CompareTiers,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_on,
    )
)

switch = endpoint(
    Route(
        slug="credit-tiers/switch",
        paths=(f"{TIERS}/switch",),
        procedure="switch_tier",
        body=SwitchTier,
        callers=CUSTOMERS,
        enabled=is_on,
        writes=True,
        after=remember_account,
        finish=take_account,
        log=what_was_switched,
    )
)

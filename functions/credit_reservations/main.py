"""credits/{reserve,settle,release,monthly-cap}: what a call of a model can cost is set aside before
it, what it came to is charged after it; and what a calendar month may cost."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta

from tallybook.body import Key
from tallybook.caller import Caller
from tallybook.credits import (
    CUSTOMERS,
    ForCustomer,
    Model,
    PowerLevel,
    Provider,
    Tokens,
    is_on,
    remember_account,
    take_account,
)
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler
from tallybook.logs import CREDITS_RELEASED, CREDITS_RESERVED, CREDITS_SETTLED
from tallybook.route import USERS, Route
from tallybook.runtime import Runtime

CREDITS = "/api/v1/credits"
Lines = Iterable[tuple[str, Mapping[str, Any]]]


class Reserve(ForCustomer, kw_only=True):
    """Which model is about to be called, and how much that can take at most."""

    model: Model
    provider: Provider | None = None
    power_level: PowerLevel = "balanced"
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000_000_000)] | None = None
    max_cost: Decimal | None = None
    expires_in_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 600
    metadata: dict[str, Any] | None = None
    idempotency_key: Key | None = None


class Settle(ForCustomer, kw_only=True):
    """What the call used, in tokens or at its cost; one that failed may have used nothing."""

    reservation_id: UUID
    tokens_used: Tokens | None = None
    cost: Decimal | None = None
    success: bool = True
    metadata: dict[str, Any] | None = None


class Release(ForCustomer, kw_only=True):
    """Which reservation was made for a call that is not."""

    reservation_id: UUID


class MonthlyCap(ForCustomer):
    """Whose cap."""


class SetMonthlyCap(ForCustomer, kw_only=True):
    """What a month may cost; null, which must be said, removes the cap."""

    monthly_cap: Decimal | None


def by_whom(_runtime: Runtime, caller: Caller, _body: Any) -> dict[str, bool]:
    """Whether the user asks. What a program reserved they could otherwise settle for nothing."""
    return {"by_user": caller.role in USERS}


def line(event: str, *names: str) -> Callable[[Caller, Any, Answer], Lines]:
    """One line that says whose reservation, and these of the answer's members."""

    def lines(caller: Caller, body: Any, answer: Answer) -> Lines:
        yield event, {"user_id": caller.user_id or body.customer, **{n: answer[n] for n in names}}

    return lines


def route(slug: str, procedure: str, body: type[ForCustomer], **more: Any) -> Handler:
    """What all of them have in common."""
    return endpoint(
        Route(
            slug=f"credit-reservations/{slug}",
            procedure=procedure,
            body=body,
            callers=CUSTOMERS,
            on_behalf=True,
            enabled=is_on,
            after=remember_account,
            finish=take_account,
            **more,
        )
    )


reserve = route(
    "reserve",
    "reserve_credits",
    Reserve,
    paths=(f"{CREDITS}/reserve",),
    key="idempotency_key",
    key_required=False,
    prepare=by_whom,
    log=line(CREDITS_RESERVED, "reservation_id", "reserved"),
)
settle = route(
    "settle",
    "settle_credits",
    Settle,
    paths=(f"{CREDITS}/settle",),
    writes=True,
    prepare=by_whom,
    log=line(CREDITS_SETTLED, "transaction_id", "cost", "charged", "shortfall"),
)
release = route(
    "release",
    "release_credits",
    Release,
    paths=(f"{CREDITS}/release",),
    prepare=by_whom,
    log=line(CREDITS_RELEASED, "reservation_id", "released"),
)

monthly_cap = route("monthly-cap", "monthly_cap", MonthlyCap, paths=(f"GET {CREDITS}/monthly-cap",))
set_monthly_cap = route(
    "set-monthly-cap",
    "set_monthly_cap",
    SetMonthlyCap,
    paths=(f"{CREDITS}/monthly-cap",),
    writes=True,
)

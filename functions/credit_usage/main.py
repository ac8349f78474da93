"""credit-usage/*: what a user used, summed up, and for administrators what everybody did."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tallybook.body import Body
from tallybook.caller import Caller
from tallybook.credits import CUSTOMERS, PERIOD, ForCustomer, ForPeriod, Moment, is_on, period
from tallybook.endpoint import endpoint
from tallybook.http import Handler
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime

USAGE: Final = "/api/v1/credits/usage"
ANALYTICS: Final = "/api/v1/admin/credits/analytics"

GroupBy = Literal["model", "provider", "power_level", "month"]


class Stats(ForPeriod):
    """Of which time, and by what it is told apart, beside the total."""

    group_by: GroupBy | None = None


class Period(Body):
    """From when until when: days in UTC, the last one included, or times with an offset."""

    start_date: Moment | None = None
    end_date: Moment | None = None


class TopSpenders(Body):
    """Of which month, the running one by default, and how many."""

    month: Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class Everybody(Body):
    """There is nothing to choose."""


def by(group: GroupBy) -> Any:
    """The address says by what it is told apart; the query cannot say another."""

    def prepare(runtime: Runtime, caller: Caller, body: ForCustomer) -> Mapping[str, Any]:
        return {**period(runtime, caller, body), "group_by": group}

    return prepare


def first_day(_runtime: Runtime, _caller: Caller, body: TopSpenders) -> Mapping[str, Any]:
    """A month is its first day in the database."""
    return {} if body.month is None else {"month": date.fromisoformat(f"{body.month}-01")}


def statistics(name: str, body: type[ForPeriod], prepare: Any) -> Handler:
    """What a user asks about their own usage, or a program about a user's."""
    return endpoint(
        Route(
            slug=f"credit-usage/{name}",
            paths=(f"GET {USAGE}/{name}",),
            procedure="usage_statistics",
            body=body,
            callers=CUSTOMERS,
            on_behalf=True,
            enabled=is_on,
            consumed=PERIOD,
            prepare=prepare,
        )
    )


def analytics(name: str, body: type[Body], **more: Any) -> Handler:
    """What an administrator or a program asks about everybody."""
    return endpoint(
        Route(
            slug=f"credit-usage/{name}",
            paths=(f"GET {ANALYTICS}/{name}",),
            procedure=f"credit_analytics_{name.replace('-', '_')}",
            body=body,
            callers=USERS | SERVICE,
            enabled=is_on,
            **more,
        )
    )


stats = statistics("stats", Stats, period)
by_model = statistics("by-model", ForPeriod, by("model"))
by_provider = statistics("by-provider", ForPeriod, by("provider"))
by_power_level = statistics("by-power-level", ForPeriod, by("power_level"))

system = analytics("system", Period, consumed=PERIOD, prepare=period)
top_spenders = analytics(
    "top-spenders", TopSpenders, consumed=frozenset({"month"}), prepare=first_day
)
distribution = analytics("distribution", Everybody)

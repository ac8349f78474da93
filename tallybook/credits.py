"""What the functions about credits have in common: the switch, bodies, what clients do not see."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from tallybook.body import Body
from tallybook.caller import Caller
from tallybook.gather import Answer
from tallybook.refusal import invalid_body
from tallybook.route import SERVICE, USERS
from tallybook.runtime import Runtime
from tallybook.settings import Settings

CUSTOMERS: Final = USERS | SERVICE
"""Users for themselves, and programs on behalf of the user whom they name."""

Model = Annotated[str, Meta(min_length=1, max_length=200)]
Provider = Annotated[str, Meta(min_length=1, max_length=100)]
PowerLevel = Annotated[str, Meta(min_length=1, max_length=100)]
Moment = Annotated[str, Meta(min_length=10, max_length=40)]
Tokens = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]

PERIOD: Final = frozenset({"start_date", "end_date"})


class ForCustomer(Body):
    """Whose credits: a user's own; a program says whose."""

    customer: UUID | None = msgspec.field(name="user_id", default=None)


class ForPeriod(ForCustomer):
    """From when until when: days in UTC, the last one included, or times with an offset."""

    start_date: Moment | None = None
    end_date: Moment | None = None


def period(_runtime: Runtime, _caller: Caller, body: Any) -> dict[str, datetime]:
    """The period's first moment, and the first one after it. Consumes start_date and end_date."""
    days = {"start_date": timedelta(), "end_date": timedelta(days=1)}
    return {
        name: _moment(getattr(body, name), name, whole_day)
        for name, whole_day in days.items()
        if getattr(body, name) is not None
    }


def _moment(text: str, name: str, whole_day: timedelta) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC) + whole_day
        # A plus sign is a blank in a query string that was not encoded.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        if moment.tzinfo is not None:
            return moment
    except (ValueError, OverflowError):
        pass
    raise invalid_body("It must be a day, or a time with an offset (RFC 3339).", f"$.{name}")


def is_on(settings: Settings) -> bool:
    """Whether the credit system is switched on here."""
    return settings.credit_system_enabled


def without_account(_runtime: Runtime, _caller: Caller, _body: Any, answer: Answer) -> Answer:
    """The answer without what it says to the cache of balances."""
    answer.pop("account", None)
    return answer

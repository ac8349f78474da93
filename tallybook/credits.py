"""What the routes about credits have in common: the switch, the bodies, the cache of balances.

A route whose procedure changes a user's credits, tier or cap has `after=remember_account` and
`finish=take_account`: its answer carries the account as it is now, for the cache alone. The route
that shows a balance has `before=cached_balance` and `after=remember_balance` as well.

The cache is for looking. What may be spent is for the database to say, which never asks it: an
entry that is stale, missing or forged shows a wrong number, for CREDIT_CACHE_TTL seconds at most,
and allows nothing.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from tallybook.body import Body
from tallybook.caller import Caller
from tallybook.gather import Answer, Arguments
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

_LAST_DAY: Final = datetime(9999, 12, 31, tzinfo=UTC)


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
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            # After the last day there is, which some say for no end at all, there is none.
            return min(day, _LAST_DAY - whole_day) + whole_day
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


async def cached_balance(runtime: Runtime, arguments: Arguments) -> Answer | None:
    """The balance as the cache has it; None where the statement is asked for too."""
    if arguments.get("include_history"):
        return None
    return await runtime.balance_cache.get(arguments["user_id"])


async def remember_balance(runtime: Runtime, arguments: Arguments, answer: Answer) -> None:
    """Keep what was answered: beside the account it knows what has expired since."""
    account = answer.get("account")
    if account is not None:
        await runtime.balance_cache.put(arguments["user_id"], {**account, **answer})


async def remember_account(runtime: Runtime, arguments: Arguments, answer: Answer) -> None:
    """Keep the account, or `accounts`, that a change has left behind.

    An administrator's argument `user_id` is the administrator: there the account says whose it is.
    """
    for account in (answer.get("account"), *answer.get("accounts", ())):
        if account is not None:
            user_id = account.get("user_id") or arguments["user_id"]
            await runtime.balance_cache.put(user_id, account)


def take_account(runtime: Runtime, caller: Caller, body: Any, answer: Answer) -> Answer:
    """The answer without what was for the cache."""
    return {name: value for name, value in answer.items() if name not in ("account", "accounts")}

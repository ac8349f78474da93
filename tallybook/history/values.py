"""What the texts of a line mean: whose, when, how many. Exact, or said to be wrong: ValueError."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

TEXT_LENGTH_MAX: Final = 200
REMEMBERED: Final = 1 << 16
"""A file names the same users and days again and again; the memory of them is bounded."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NUMBER: Final = re.compile(
    r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?"
)


def user_namespace(source: str) -> UUID:
    """The namespace of a source's users: a user id that is no UUID becomes uuid5(namespace, id)."""
    return uuid5(NAMESPACE_URL, f"urn:tallybook:import:{source}")


def user_ids(source: str, column: str) -> Callable[[str], str]:
    """A function that turns what a file calls a user into a user id."""
    namespace = user_namespace(source)

    @lru_cache(REMEMBERED)
    def user_id(value: str) -> str:
        said = text(value, column)
        return said.lower() if _UUID.fullmatch(said) else str(uuid5(namespace, said))

    return user_id


def text(value: str, column: str) -> str:
    """A text without the space around it, neither empty nor too long."""
    said = value.strip()
    if not said:
        raise ValueError(f"{column}: is empty")
    if len(said) > TEXT_LENGTH_MAX:
        raise ValueError(f"{column}: has more than {TEXT_LENGTH_MAX} characters")
    if not said.isprintable():
        raise ValueError(f"{column}: {shown(said)} has characters that do not print")
    return said


def number(value: str, column: str) -> Decimal:
    """A decimal number, every digit of it."""
    said = value.strip()
    if not _NUMBER.fullmatch(said):
        raise ValueError(f"{column}: {shown(said)} is not a number")
    return Decimal(said)


def time(value: str, column: str) -> str:
    """RFC 3339 in UTC, to the microsecond. A date is its midnight; without an offset it is UTC."""
    said = value.strip()
    try:
        moment = datetime.fromisoformat(said.upper())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise ValueError(f"{column}: {shown(said)} is not a date or a time") from None


def shown(said: str) -> str:
    """A text as a complaint quotes it."""
    return repr(said if len(said) <= 40 else said[:40] + "…")

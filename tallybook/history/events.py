"""What a record of history means: whose, when, how many points. Exact, or said to be wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from tallybook.history.records import Columns, Record

POINTS_MAX: Final = 2**31 - 1
TEXT_LENGTH_MAX: Final = 200
_REMEMBERED: Final = 1 << 16

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NUMBER: Final = re.compile(
    r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?"
)


class Rounding(StrEnum):
    """How a decimal number becomes whole points.

    floor: down, so that nobody gets more than the file says; -1.5 is -2. nearest: half goes away
    from zero; 1.5 is 2, -1.5 is -2.
    """

    FLOOR = "floor"
    NEAREST = "nearest"


class Event(msgspec.Struct, omit_defaults=True):
    """One element of what public.import_points_events takes."""

    line: int
    user_id: str
    event_type: str
    event_time: str
    points: int
    key: str | None = None
    occurrence: int = 1


def user_namespace(source: str) -> UUID:
    """The namespace of a source's users: a user id that is no UUID becomes uuid5(namespace, id)."""
    return uuid5(NAMESPACE_URL, f"urn:tallybook:import:{source}")


def interpreter(
    source: str, columns: Columns, event_type: str, rounding: Rounding
) -> Callable[[Record], Event]:
    """A function that turns a record into its event, or raises ValueError with what is wrong."""
    namespace = user_namespace(source)
    mode = ROUND_FLOOR if rounding is Rounding.FLOOR else ROUND_HALF_UP
    type_place = 3 if columns.event_type else None
    key_place = (3 if type_place is None else 4) if columns.key else None

    # A file names the same users and days again and again; the memory of them is bounded.
    @lru_cache(_REMEMBERED)
    def user_id(value: str) -> str:
        text = _text(value, columns.user)
        return text.lower() if _UUID.fullmatch(text) else str(uuid5(namespace, text))

    @lru_cache(_REMEMBERED)
    def event_time(value: str) -> str:
        return _time(value, columns.time)

    def interpret(record: Record) -> Event:
        values = record.values
        return Event(
            line=record.line,
            user_id=user_id(values[0]),
            event_type=event_type if type_place is None else _text(values[type_place], "type"),
            event_time=event_time(values[1]),
            points=_points(values[2], columns.points, mode),
            key=None if key_place is None else _text(values[key_place], columns.key or ""),
        )

    return interpret


def _text(value: str, column: str) -> str:
    text = value.strip()
    if not text:
        raise ValueError(f"{column}: is empty")
    if len(text) > TEXT_LENGTH_MAX:
        raise ValueError(f"{column}: has more than {TEXT_LENGTH_MAX} characters")
    if not text.isprintable():
        raise ValueError(f"{column}: {_shown(text)} has characters that do not print")
    return text


def _points(value: str, column: str, mode: str) -> int:
    text = value.strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{column}: {_shown(text)} is not a number")
    points = int(Decimal(text).to_integral_value(mode))
    if abs(points) > POINTS_MAX:
        raise ValueError(f"{column}: {_shown(text)} is more than {POINTS_MAX}")
    return points


def _time(value: str, column: str) -> str:
    """RFC 3339 in UTC, to the microsecond. A date is its midnight; without an offset it is UTC."""
    text = value.strip()
    try:
        time = datetime.fromisoformat(text.upper())
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return time.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise ValueError(f"{column}: {_shown(text)} is not a date or a time") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")

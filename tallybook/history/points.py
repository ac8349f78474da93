"""Points that were earned or spent before: a line is a user, a time and how many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, ROUND_HALF_UP
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar, Final

from tallybook.history import values
from tallybook.history.columns import ColumnNames
from tallybook.history.plan import Entry, Import, Tally
from tallybook.history.records import Record

POINTS_MAX: Final = 2**31 - 1


class Rounding(StrEnum):
    """How a decimal number becomes whole points.

    floor: down, so that nobody gets more than the file says; -1.5 is -2. nearest: half goes away
    from zero; 1.5 is 2, -1.5 is -2.
    """

    FLOOR = "floor"
    NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class Columns(ColumnNames):
    """`key` is the file's own id of an event; it and `event_type` may be absent."""

    CALLED: ClassVar[Mapping[str, str]] = {"event_type": "type"}

    user: str = "user_id"
    time: str = "event_time"
    points: str = "points"
    event_type: str | None = None
    key: str | None = None


class Event(Entry, kw_only=True):
    """One element of what public.import_points_events takes."""

    event_type: str
    event_time: str
    points: int

    @property
    def content(self) -> str:
        return f"{self.event_time} {self.points} {self.event_type}"


@dataclass(slots=True)
class Report(Tally):
    """`points` is the imported sum."""

    points: int = 0

    @property
    def sums(self) -> str:
        return f"{self.points:,} points"

    def add(self, answer: Mapping[str, Any]) -> None:
        Tally.add(self, answer)
        self.points += answer["points"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Import[Report]):
    """How a file of points is to be read; without a column for it each line is an `event_type`."""

    PROCEDURE: ClassVar[str] = "import_points_events"

    columns: Columns = field(default_factory=Columns)
    event_type: str = "history_import"
    rounding: Rounding = Rounding.FLOOR

    @property
    def names(self) -> ColumnNames:
        return self.columns

    def report(self) -> Report:
        return Report(self.source, str(values.user_namespace(self.source)), self.dry_run)

    def interpreter(self) -> Callable[[Record], Event]:
        columns = self.columns
        place = {name: place for place, name in enumerate(columns.wanted)}
        mode = ROUND_FLOOR if self.rounding is Rounding.FLOOR else ROUND_HALF_UP
        type_place, key_place = place.get("event_type"), place.get("key")
        user_id = values.user_ids(self.source, columns.user)

        @lru_cache(values.REMEMBERED)
        def event_time(value: str) -> str:
            return values.time(value, columns.time)

        def interpret(record: Record) -> Event:
            said = record.values
            return Event(
                line=record.line,
                user_id=user_id(said[0]),
                event_type=self.event_type
                if type_place is None
                else values.text(said[type_place], "type"),
                event_time=event_time(said[1]),
                points=_points(said[2], columns.points, mode),
                key=None if key_place is None else values.text(said[key_place], columns.key or ""),
            )

        return interpret


def _points(value: str, column: str, mode: str) -> int:
    points = int(values.number(value, column).to_integral_value(mode))
    if abs(points) > POINTS_MAX:
        raise ValueError(f"{column}: {values.shown(value.strip())} is more than {POINTS_MAX}")
    return points

"""The model of what one user may submit in an hour and in a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, NamedTuple

from tests.machine.model import Event

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


def limits(
    terms: Terms, sent: Iterable[Event], kind: str, points: int, now: datetime
) -> list[Limit]:
    """What a submission comes up against after those that were sent, in the order of telling."""
    sent = [e for e in sent if now - e.created_at < DAY]

    def used(window: timedelta, weigh: Callable[[Event], int]) -> list[tuple[datetime, int]]:
        return [(e.created_at, weigh(e)) for e in sent if now - e.created_at < window]

    def one(_event: Event) -> int:
        return 1

    def worth(event: Event) -> int:
        return 0 if event.status == "rejected" else event.points

    found = [
        Limit("events_per_hour", terms.events_per_hour, HOUR, 1, used(HOUR, one)),
        Limit("events_per_day", terms.events_per_day, DAY, 1, used(DAY, one)),
        Limit("points_per_hour", terms.points_per_hour, HOUR, points, used(HOUR, worth)),
        Limit("points_per_day", terms.points_per_day, DAY, points, used(DAY, worth)),
    ]
    if kind == "goal_achieved":
        goals = [(e.created_at, 1) for e in sent if e.kind == kind]
        found.insert(2, Limit("events_of_type_per_day", terms.goals_per_day, DAY, 1, goals))
    return found


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits that a few events come up against; the operator sets them, the model goes by them."""

    events_per_hour: int = 8
    events_per_day: int = 12
    points_per_hour: int = 130
    points_per_day: int = 200
    goals_per_day: int = 2
    award_review_above: int = 200
    expires_after: timedelta = timedelta(days=10)


class Limit(NamedTuple):
    """One limit of a user: how much there may be in how long, and what of it was used when."""

    policy: str
    quota: int
    window: timedelta
    needed: int
    used: list[tuple[datetime, int]]  # the oldest first

    @property
    def exceeded(self) -> bool:
        return sum(n for _, n in self.used) + self.needed > self.quota

    def again(self, now: datetime) -> int:
        """Seconds until enough of what was used has grown older than the window."""
        newest_first, total = self.used[::-1], 0
        for at, used in newest_first:
            total += used
            if total + self.needed > self.quota:
                return max(1, ceil((self.window - (now - at)).total_seconds()))
        raise AssertionError(f"{self} is not exceeded")

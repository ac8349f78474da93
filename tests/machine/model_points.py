"""The model of points: submitted, judged, and gone when their time is up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final
from uuid import UUID

from tests.machine.model import Actor, Event, Refused, Said, Shared
from tests.machine.model_limits import DAY, HOUR, Limit, Terms, limits
from tests.machine.model_trust import Insight, Judge

POINTS: Final = {"habit_completion": 10, "workout": 20, "goal_achieved": 50, "bonus_claim": 0}
NOT_SUBMITTABLE: Final = ("admin_award", "redeem_coupon")
PROOF_TYPES: Final = (None, "internal", "google_fit", "apple_health", "device_attestation")
VERDICTS: Final = ("validated", "pending_review", "rejected", "flagged")

# Streaks of days and their percentages: as they come, and two that are soon reached.
STREAKS: Final = {2: 125, 3: 150, 7: 120, 14: 130, 30: 150, 90: 200}

EARLIEST, LATEST = timedelta(days=7), timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Submission:
    """What makes two submissions the same."""

    user: UUID
    kind: str
    at: datetime
    nonce: str
    proof: str | None = None
    proof_type: str | None = None
    device: str | None = None


@dataclass(slots=True)
class Points:
    """Everything about points. `shared` is what the coupons go by as well."""

    shared: Shared
    terms: Terms = field(default_factory=Terms)
    judge: Judge = field(default_factory=Judge)
    submitted: dict[Submission, Event] = field(default_factory=dict)

    # Submitting

    def submit(self, it: Submission) -> tuple[Said, Event]:
        """Somebody says that something happened."""
        now = self.shared.now
        acceptable = (
            it.kind in POINTS
            and it.proof_type in PROOF_TYPES
            and now - EARLIEST <= it.at <= now + LATEST
        )
        met = self._limits(it) if it.kind in POINTS else []
        # Of several the one that lasts longest is told.
        full = sorted((-limit.again(now), limit.policy, limit) for limit in met if limit.exceeded)
        exceeded = full[0][-1] if full else None
        nonce = (it.user, it.nonce)
        claimed = acceptable and exceeded is None and nonce not in self.shared.nonces
        if claimed:
            self.shared.claim(nonce)
        if it in self.submitted:
            event = self.submitted[it]
            return Said(self._accepted(event), replayed=True), event
        if claimed:
            per_hour = met[0]
            event = self.submitted[it] = self.shared.record(
                it.user, it.kind, POINTS[it.kind], "pending",
                event_time=it.at, nonce=it.nonce, proof=it.proof,
                measured=it.proof_type == "google_fit", device=it.device,
            )  # fmt: skip
            since = per_hour.used[0][0] if per_hour.used else now
            left = per_hour.quota - len(per_hour.used) - 1
            reset = ceil((HOUR - (now - since)).total_seconds())
            limit = ("events_per_hour", per_hour.quota, 3600, left, reset)
            return Said(self._accepted(event), limit=limit), event
        if nonce in self.shared.nonces:
            raise Refused("nonce_reused")
        if it.kind not in POINTS:
            known = it.kind in NOT_SUBMITTABLE
            raise Refused("event_type_not_submittable" if known else "unknown_event_type")
        if it.proof_type not in PROOF_TYPES:
            raise Refused("proof_type_not_accepted")
        if not acceptable:
            raise Refused("event_in_future" if it.at > now else "event_too_old")
        assert exceeded is not None
        raise Refused("rate_limited", exceeded.policy, exceeded.again(now))

    @staticmethod
    def _accepted(event: Event) -> dict[str, Any]:
        # A replay is answered as the first time, whatever has become of it since.
        return {
            "id": event.id, "status": "pending", "event_type": event.kind,
            "event_time": event.event_time, "created_at": event.created_at,
        }  # fmt: skip

    def _limits(self, it: Submission) -> list[Limit]:
        return limits(self.terms, self.of(it.user), it.kind, POINTS[it.kind], self.shared.now)

    def of(self, user: UUID) -> Iterable[Event]:
        """What a user has submitted, the oldest first."""
        return (e for e in self.shared.events if e.user == user and e.kind in POINTS)

    # Judging

    def validate(self, by: Actor, event: Event | None = None) -> tuple[Said, list[Event]]:
        """Decide what is pending, or one event."""
        if not by.administers:
            raise Refused("forbidden")
        pending = [e for e in self.shared.events if e.status == "pending"]
        if event is not None:
            if event not in pending:
                raise Refused("event_not_found")
            pending = [event]
        self.judge.see(pending)
        judged = [
            self.judge.judge(e, [o for o in self.of(e.user) if o.number < e.number])
            for e in pending
        ]
        counting = [e for e, j in zip(pending, judged, strict=True) if j.verdict == "validated"]
        worth = {e.number: self.worth(e, counting) for e in counting}
        insights = []
        for e, j in zip(pending, judged, strict=True):
            e.score, e.status = j.score, j.verdict
            if j.verdict == "validated":
                e.points, e.streak = worth[e.number]
                self.shared.post(e)
            else:
                insights.append(Insight(e, j.kind, j.severity, j.score, self.shared.now))
        self.judge.insights += insights
        statuses = [e.status for e in pending]
        body = {
            **{verdict: statuses.count(verdict) for verdict in VERDICTS},
            "events": [
                {
                    "event_id": e.id, "user_id": str(e.user), "validation_status": e.status,
                    "trust_score": e.score, "points_awarded": points_awarded(e),
                }
                for e in pending
            ],
            "insights": [
                {
                    "user_id": str(i.event.user), "insight_type": i.kind,
                    "severity": i.severity, "score": i.score,
                }
                for i in insights
            ],
        }  # fmt: skip
        return Said(body), pending

    def worth(self, event: Event, together: Sequence[Event] = ()) -> tuple[int, int | None]:
        """What an event is worth once it counts, and the streak that says so."""
        if event.kind != "habit_completion":
            return event.points, None
        days = {
            e.event_time.date()
            for e in self.of(event.user)
            if e.kind == event.kind and (e.status == "validated" or e in together)
        }
        streak = 1
        while event.event_time.date() - streak * DAY in days:
            streak += 1
        percent = max(((d, p) for d, p in STREAKS.items() if d <= streak), default=(0, 100))[1]
        return event.points * percent // 100, streak

    # What time does

    def expire(self) -> int:
        """Take what was not spent in time; how many points that was."""
        total = 0
        for user, book in self.shared.books.items():
            for lot, left in list(book.left()):
                if left and lot.at + self.terms.expires_after <= self.shared.now:
                    lot.expired += left
                    self.shared.record(user, "points_expiry", -left, "validated")
                    total += left
        return total

    # What there is to see

    def balance(self, user: UUID) -> dict[str, int]:
        book = self.shared.books[user]
        return {
            "available_points": book.available, "held_points": 0,
            "pending_points": self.pending(user),
            "lifetime_earned": book.earned, "lifetime_spent": book.gone,
        }  # fmt: skip

    def pending(self, user: UUID) -> int:
        """What waits to be decided, by the worker or by a person."""
        waiting = ("pending", "pending_review")
        return sum(e.points for e in self.shared.events if e.user == user and e.status in waiting)

    def schedule(self, user: UUID) -> list[dict[str, Any]]:
        """What expires when, if nothing is spent."""
        lots: dict[datetime, int] = {}
        for lot, left in self.shared.books[user].left():
            if left:
                at = lot.at + self.terms.expires_after
                lots[at] = lots.get(at, 0) + left
        return [{"expires_at": at, "points": points} for at, points in sorted(lots.items())]


def points_awarded(event: Event) -> int:
    """What is said of an event, which counts or does not."""
    return event.points if event.status == "validated" else 0

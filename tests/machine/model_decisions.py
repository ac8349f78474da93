"""The model of what people decide: reviews, insights that were looked into, awards."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from tests.machine.model import Actor, Event, Refused, Said, Shared
from tests.machine.model_points import POINTS, Points, points_awarded
from tests.machine.model_trust import Insight, Resolution


@dataclass(slots=True)
class Decisions:
    """Everything that an administrator decides about points."""

    shared: Shared
    points: Points
    reviews: dict[int, tuple[str, Actor]] = field(default_factory=dict)  # by the event's number
    awards: dict[tuple[UUID, str], tuple[int, str, Event]] = field(default_factory=dict)

    def review(self, by: Actor, event: Event, decision: str, reason: str) -> Said:
        """Somebody decides what waits for a person."""
        if not by.administers:
            raise Refused("forbidden")
        if not reason.strip():
            raise Refused("reason_required")
        if (
            event.kind not in POINTS
            and event.status == "validated"
            and event.number not in self.reviews
        ):
            raise Refused("event_not_found")  # nobody ever had to decide it
        if event.user == by.user:
            raise Refused("own_event")
        replayed = event.number in self.reviews
        if replayed:
            if self.reviews[event.number] != (decision, by):
                raise Refused("already_reviewed")
        else:
            if event.status != "pending_review":
                raise Refused("not_reviewable")
            if decision == "approved" and event.awarded_by == by.signature:
                raise Refused("own_event")
            self.reviews[event.number] = (decision, by)
            if decision == "approved":
                event.points, event.streak = self.points.worth(event)
                event.status = "validated"
                self.shared.post(event)
                for insight in self.points.judge.insights:
                    if insight.event is event and insight.resolved is None:
                        insight.resolved = Resolution(by.signature, reason, self.shared.now)
            else:
                event.status = "rejected"
        body = {
            "event_id": event.id, "user_id": str(event.user), "decision": decision,
            "validation_status": event.status, "points_awarded": points_awarded(event),
            "trust_score": event.score, "reviewed_by": by.signature,
        }  # fmt: skip
        return Said(body, replayed)

    def resolve(self, by: Actor, insight: Insight, notes: str) -> Said:
        """Somebody has looked into what was found about a user."""
        if not by.administers:
            raise Refused("forbidden")
        if insight.event.user == by.user:
            raise Refused("own_event")
        replayed = insight.resolved is not None
        insight.resolved = insight.resolved or Resolution(by.signature, notes, self.shared.now)
        if (insight.resolved.by, insight.resolved.notes) != (by.signature, notes):
            raise Refused("already_resolved")
        body = {
            "insight_id": insight.id, "user_id": str(insight.event.user), "resolved": True,
            "resolved_at": insight.resolved.at, "resolved_by": by.signature,
        }  # fmt: skip
        return Said(body, replayed)

    def award(self, by: Actor, to: UUID, points: int, reason: str, key: str) -> tuple[Said, Event]:
        """An administrator gives points, or takes some; many only with another's consent."""
        if not by.administers:
            raise Refused("forbidden")
        if not reason.strip():
            raise Refused("reason_required")
        if to == by.user:
            raise Refused("own_event")
        replayed = (to, key) in self.awards
        if replayed:
            *first, event = self.awards[to, key]
            if first != [points, reason]:
                raise Refused("nonce_reused")
        else:
            if points < -self.shared.books[to].available:
                raise Refused("insufficient_funds")
            waits = points > self.points.terms.award_review_above
            event = self.shared.record(
                to,
                "admin_award" if points > 0 else "admin_deduction",
                points,
                "pending_review" if waits else "validated",
                awarded_by=by.signature,
            )
            self.awards[to, key] = (points, reason, event)
            if not waits:
                self.shared.post(event)
        body = {
            "event_id": event.id, "user_id": str(to), "points": points, "status": event.status,
            "points_available": self.shared.books[to].available,
        }  # fmt: skip
        return Said(body, replayed), event

"""Steps of people who decide: reviews, insights that are looked into, awards."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Actor, Event, Said
from tests.machine.model_trust import Insight
from tests.machine.steps import Steps, deciders, pick, reasons, recent, users

ROUTES: Final = {"approved": "review/approve", "rejected": "review/reject"}
decisions: Final = st.sampled_from(sorted(ROUTES))


class DecisionSteps(Steps):
    """What administrators do with points."""

    def __init__(self) -> None:
        super().__init__()
        self.awards: list[tuple[Actor, Actor, int, str]] = []
        self.resolved: list[tuple[Actor, Insight, str]] = []

    @precondition(lambda self: self.reviewable)
    @rule(by=deciders, which=recent, decision=decisions, reason=reasons)
    def review(self, by: str, which: int, decision: str, reason: str) -> None:
        self.decide(self.actor(by), pick(self.reviewable, which), decision, reason)

    @precondition(lambda self: self.decisions.reviews)
    @rule(by=deciders, which=recent, same=st.booleans(), decision=decisions)
    def review_again(self, by: str, which: int, same: bool, decision: str) -> None:
        """What was decided is decided again, by the same person or as it comes."""
        number, (first, reviewer) = pick(list(self.decisions.reviews.items()), which)
        again = (reviewer, first) if same else (self.actor(by), decision)
        self.decide(again[0], self.shared.events[number], again[1], "It was looked into.")

    def decide(self, by: Actor, event: Event, decision: str, reason: str) -> None:
        answer = self.stage.post(by, ROUTES[decision], {"event_id": event.id, "reason": reason})
        said = self.agree(
            "review", answer, lambda: self.decisions.review(by, event, decision, reason)
        )
        if said is not None and not said.replayed:
            self.note("review", decision)

    @property
    def reviewable(self) -> list[Event]:
        """Events that somebody may want to decide; those that wait come last, and so most often."""
        events = [e for e in self.shared.events if e.id is not None]
        return sorted(events, key=lambda e: (e.status == "pending_review", e.number))

    @precondition(lambda self: self.points.judge.insights)
    @rule(by=deciders, which=recent, notes=st.sampled_from(("A bug.", "A bug.", "A thief.")))
    def resolve(self, by: str, which: int, notes: str) -> None:
        self.look_into(self.actor(by), pick(self.points.judge.insights, which), notes)

    @precondition(lambda self: self.resolved)
    @rule(which=recent)
    def resolve_again(self, which: int) -> None:
        self.look_into(*pick(self.resolved, which))

    def look_into(self, by: Actor, insight: Insight, notes: str) -> None:
        insight.id = insight.id or str(
            self.stage.world.value(
                "select insight_id from fraud_insights where related_event_ids = array[%s::uuid]",
                (insight.event.id,),
            )
        )
        answer = self.stage.call(
            "resolve_fraud_insight", user_id=by.user, insight_id=insight.id, notes=notes
        )
        said = self.agree("resolve", answer, lambda: self.decisions.resolve(by, insight, notes))
        if said is not None and not said.replayed:
            self.resolved.append((by, insight, notes))

    @rule(
        by=deciders,
        to=users,
        points=st.sampled_from((25, 80, 150, 200, 200, 200, 200, 201, 500, -30, -400, -400)),
    )
    def award(self, by: str, to: str, points: int) -> None:
        self.give((self.actor(by), self.actor(to), points, self.new_key()), "award")

    @precondition(lambda self: self.awards)
    @rule(which=recent, same=st.booleans())
    def award_again(self, which: int, same: bool) -> None:
        by, to, points, key = pick(self.awards, which)
        self.give((by, to, points if same else points + 1, key), "award again")

    def give(self, award: tuple[Actor, Actor, int, str], rule: str) -> None:
        by, to, points, key = award
        user, reason = to.user, "For the garden."
        assert user is not None
        answer = self.stage.call(
            "award_points",
            user_id=by.user,
            to_user_id=user,
            points=points,
            reason=reason,
            idempotency_key=key,
        )

        def expect() -> Said:
            said, event = self.decisions.award(by, user, points, reason, key)
            event.id = said.body["event_id"] = event.id or answer.body.get("event_id")
            return said

        said = self.agree(rule, answer, expect)
        if said is not None and not said.replayed:
            self.note(rule, said.body["status"])
            self.awards.append(award)

"""Steps with points: what happened is submitted, once or again, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Event, Said
from tests.machine.model_points import POINTS, Submission
from tests.machine.steps import Steps, deciders, pick, recent, users

kinds: Final = st.sampled_from(
    ("habit_completion",) * 4
    + ("workout",) * 3
    + ("goal_achieved",) * 2
    + ("bonus_claim", "admin_award", "a_dance")
)
# How long before now something happened, or that it followed the latest one so closely.
whens: Final = st.one_of(
    st.integers(0, 4).map(lambda days: timedelta(days=days)),
    st.integers(1, 600).map(lambda minutes: timedelta(minutes=minutes)),
    st.sampled_from(("5 s later", "0.5 s later")),
    st.sampled_from((*[timedelta(minutes=-11)] * 2, timedelta(minutes=-5), timedelta(days=8))),
)
intervals: Final = st.sampled_from(
    (timedelta(days=1), timedelta(minutes=2), timedelta(minutes=7), timedelta(seconds=5))
)


class PointsSteps(Steps):
    """What users say they did, and what the worker makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Submission] = []

    @rule(
        who=users,
        kind=kinds,
        when=whens,
        proof=st.sampled_from((None, None, None, "a", "b")),
        proof_type=st.sampled_from((None, None, "google_fit", None, "manual_admin")),
        device=st.sampled_from((None, None, "tablet", "phone")),
    )
    def submit(
        self,
        who: str,
        kind: str,
        when: timedelta | str,
        proof: str | None,
        proof_type: str | None,
        device: str | None,
    ) -> None:
        user = self.user(who)
        if isinstance(when, str):
            sent = [e.event_time for e in self.points.of(user)]
            at = (sent[-1] if sent else self.shared.now) + timedelta(seconds=float(when.split()[0]))
        else:
            at = self.shared.now - when
        it = Submission(user, kind, at, self.new_key(), proof, proof_type, device)
        self.send(it, "submit")

    @rule(
        who=users, kind=st.sampled_from(sorted(POINTS)), number=st.integers(2, 6), apart=intervals
    )
    def submit_several(self, who: str, kind: str, number: int, apart: timedelta) -> None:
        """An app that was offline: what happened at regular times comes all at once, until one is
        refused."""
        for each in range(number):
            at = self.shared.now - each * apart
            it = Submission(self.user(who), kind, at, self.new_key())
            if self.send(it, "submit") is None:
                break

    @rule(who=users, kind=st.sampled_from(("habit_completion", "workout")))
    def have_a_busy_day(self, who: str, kind: str) -> None:
        """More than the limits of a day allow, and no more than those of an hour."""
        self.submit_several(who, kind, 7, timedelta(minutes=7))
        self.wait(timedelta(minutes=61))
        self.submit_several(who, kind, 6, timedelta(minutes=7))

    @precondition(lambda self: self.sent)
    @rule(which=recent)
    def submit_again(self, which: int) -> None:
        self.send(pick(self.sent, which), "submit again")

    @precondition(lambda self: self.sent)
    @rule(which=recent, when=st.integers(61, 100))
    def submit_otherwise(self, which: int, when: int) -> None:
        """Under a nonce that came with something else."""
        earlier = pick(self.sent, which)
        at = self.shared.now - timedelta(minutes=when)
        it = Submission(earlier.user, "workout", at, earlier.nonce)
        self.send(it, "submit otherwise")

    def send(self, it: Submission, rule: str) -> Said | None:
        body = {
            "event_type": it.kind,
            "event_time": it.at.isoformat(),
            "nonce": it.nonce,
            "proof_payload": it.proof and {"reading": it.proof},
            "proof_type": it.proof_type,
            "device_id": it.device,
        }
        answer = self.stage.post(self.who(it.user), "submit-points-event", body)

        def expect() -> Said:
            said, event = self.points.submit(it)
            if not said.replayed:
                event.id = said.body["id"] = answer.body.get("id")
                self.sent.append(it)
            return said

        return self.agree(rule, answer, expect)

    @rule(by=deciders)
    def validate(self, by: str) -> None:
        actor = self.actor(by)
        answer = self.stage.post(actor, "validate-points-event", {})
        self.agree("validate", answer, lambda: self.decided(self.points.validate(actor)))

    @precondition(lambda self: self.sent)
    @rule(by=deciders, which=recent)
    def validate_one(self, by: str, which: int) -> None:
        actor, event = self.actor(by), pick(self.submitted, which)
        answer = self.stage.post(actor, "validate-points-event", {"event_id": event.id})
        self.agree("validate one", answer, lambda: self.decided(self.points.validate(actor, event)))

    @property
    def submitted(self) -> list[Event]:
        """What was submitted; what is pending comes last, and so most often."""
        events = self.points.submitted.values()
        return sorted(events, key=lambda e: (e.status == "pending", e.number))

    def decided(self, outcome: tuple[Said, Sequence[Event]]) -> Said:
        said, events = outcome
        self.note("verdict", *(event.status for event in events))
        self.note("verdict", *("streak" for event in events if event.points > POINTS[event.kind]))
        return said

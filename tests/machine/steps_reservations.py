"""Steps with reservations: credits are set aside before a model is called, and used after it."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Said
from tests.machine.model_credits import Reservation
from tests.machine.model_reservations import Call, Outcome
from tests.machine.stage import Answer
from tests.machine.steps import pick, recent
from tests.machine.steps_credits import (
    CreditSteps,
    Request,
    amounts,
    askers,
    customers,
    levels,
    models,
    tokens,
)

hows: Final = st.sampled_from(("less", "more", "much more", "zero", "failed", "cost", "cost"))


class ReservationSteps(CreditSteps):
    """What happens to reservations, by whom they are of and by others."""

    @rule(
        who=customers,
        by=askers,
        model=models,
        level=levels,
        number=st.one_of(st.none(), tokens),
        cost_max=st.sampled_from((None, None, Decimal("1.5"), Decimal("0.000001"))),
        seconds=st.sampled_from((1, 60, 600, 86_400)),
    )
    def reserve(
        self,
        who: str,
        by: str,
        model: str,
        level: str,
        number: int | None,
        cost_max: Decimal | None,
        seconds: int,
    ) -> None:
        user, actor, key = self.user(who), self.asker(by, who), self.new_key()
        body = {
            **self.on_behalf(by, who), "model": model, "power_level": level, "max_tokens": number,
            "max_cost": cost_max, "expires_in_seconds": seconds, "idempotency_key": key,
        }  # fmt: skip
        call = Call(model, level, number, cost_max, seconds)

        def expect(answer: Answer) -> Said:
            id = answer.body.get("reservation_id", "")
            return self.reservations.reserve(actor, user, call, key, id)

        said = self.ask(Request("reserve", "credit-reservations/reserve", actor, body, expect))
        if said is not None and not said.body["reserved"]:
            self.note("reserve", "nothing")

    @precondition(lambda self: self.credits.reservations)
    @rule(
        which=recent,
        by=st.sampled_from(("whoever", "whoever", "customer", "another")),
        how=hows,
        number=tokens,
        cost=amounts,
    )
    def settle(self, which: int, by: str, how: str, number: int, cost: Decimal) -> None:
        it = self.reserved(which)
        outcome = {
            "less": Outcome(1, None, True),
            "more": Outcome(number, None, True),
            "much more": Outcome(10_000_000, None, True),
            "zero": Outcome(0, None, True),
            "failed": Outcome(None, None, False),
            "cost": Outcome(None, cost, True),
        }[how]
        said = self.end(it, by, outcome)
        if said is not None and not said.replayed:
            told = said.body
            self.note("settle", "failed" if how == "failed" else "charged")
            for name in ("charged", "released", "shortfall"):
                if told[name]:
                    self.note("settle", name)
            if told["charged"] > it.amount:
                self.note("settle", "beyond what was reserved")

    @rule(
        who=customers,
        by=askers,
        model=models,
        level=levels,
        how=st.one_of(hows, st.just("release")),
        number=tokens,
        cost=amounts,
    )
    def call(
        self, who: str, by: str, model: str, level: str, how: str, number: int, cost: Decimal
    ) -> None:
        """A model is called as it should be: reserved before, and settled at once."""
        reservations = len(self.credits.reservations)
        self.reserve(who, by, model, level, number, None, 600)
        if len(self.credits.reservations) > reservations:
            if how == "release":
                self.release(0, "whoever")
            else:
                self.settle(0, "whoever", how, number, cost)

    @precondition(lambda self: self.credits.reservations)
    @rule(which=recent, by=st.sampled_from(("whoever", "whoever", "customer", "another")))
    def release(self, which: int, by: str) -> None:
        self.end(self.reserved(which), by, None)

    def end(self, it: Reservation, by: str, outcome: Outcome | None) -> Said | None:
        """By the customer, by somebody else, or by whom it was reserved."""
        owner = self.who(it.user)
        if by == "whoever":
            by = "customer" if it.by_user else "program"
        other = self.actor("ben" if owner.name == "ann" else "ann")
        actor = other if by == "another" else self.asker(by, owner.name)
        body = {**self.on_behalf(by, owner.name), "reservation_id": it.id}
        if outcome is None:
            return self.ask(
                Request(
                    "release", "credit-reservations/release", actor, body,
                    lambda _: self.reservations.release(actor, it),
                )
            )  # fmt: skip
        body |= {"tokens_used": outcome.tokens, "cost": outcome.cost, "success": outcome.success}
        return self.ask(
            Request(
                "settle", "credit-reservations/settle", actor, body,
                lambda _: self.reservations.settle(actor, it, outcome),
            )
        )  # fmt: skip

    # Which

    def reserved(self, which: int) -> Reservation:
        """A reservation; those that are held come first."""
        found = sorted(self.credits.reservations.values(), key=lambda r: (r.status == "held", r.id))
        return pick(found, which)

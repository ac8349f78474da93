"""Steps with caps, tiers and promotional codes; time passes, and upkeep does what is due."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Said
from tests.machine.model_prices import TIERS
from tests.machine.model_purse import months_later
from tests.machine.model_tiers import UNKNOWN_CODE
from tests.machine.stage import SERVICE, Answer
from tests.machine.steps import compare, deciders, pick, recent
from tests.machine.steps_credits import Request, askers, customers, tokens
from tests.machine.steps_reservations import ReservationSteps

spans: Final = st.sampled_from(
    [timedelta(minutes=n) for n in (1 / 60, 2, 2, 16, 16, 120, 60 * 24, 60 * 24 * 31)]
)
words: Final = st.sampled_from(
    ("WELCOME", "HAPPY", "HAPPY", "PART", "MONTH", "MORE", "SPRING", UNKNOWN_CODE)
)
caps: Final = st.sampled_from((None, None, Decimal(0), Decimal(3), Decimal("7.5"), Decimal(30)))


class TermSteps(ReservationSteps):
    """What changes on which terms credits are had, and what time does to them."""

    def __init__(self) -> None:
        super().__init__()
        self.terms.promotions = self.stage.promotions()

    @rule(who=customers, cap=caps)
    def set_cap(self, who: str, cap: Decimal | None) -> None:
        actor, user = self.actor(who), self.user(who)
        answer = self.stage.post(actor, "credit-reservations/set-monthly-cap", {"monthly_cap": cap})
        self.agree("cap", answer, lambda: self.credits.set_cap(user, cap))
        self.note("cap", "removed" if cap is None else "set")

    @rule(
        by=st.one_of(st.just(SERVICE), deciders), who=customers, tier=st.sampled_from(list(TIERS))
    )
    def switch(self, by: str, who: str, tier: str) -> None:
        actor, user = self.actor(by), self.user(who)
        answer = self.stage.post(actor, "credit-tiers/switch", {"tier": tier, "user_id": str(user)})
        said = self.agree("switch", answer, lambda: self.terms.switch(actor, user, tier))
        if said is not None and said.body["tier"] != said.body["previous_tier"]:
            self.note("switch", tier)

    @rule(who=customers, tier=st.sampled_from(list(TIERS)))
    def switch_own(self, who: str, tier: str) -> None:
        actor, user = self.actor(who), self.user(who)
        answer = self.stage.post(actor, "credit-tiers/switch", {"tier": tier})
        self.agree("switch own", answer, lambda: self.terms.switch(actor, user, tier))

    @rule(who=customers, by=askers, tier=st.sampled_from(list(TIERS)), number=tokens)
    def switch_in_a_call(self, who: str, by: str, tier: str, number: int) -> None:
        """What was reserved is settled at the price of then."""
        reservations = len(self.credits.reservations)
        self.reserve(who, by, "gpt-4o", "precision", 100_000, None, 600)
        self.switch(SERVICE, who, tier)
        if len(self.credits.reservations) > reservations:
            self.settle(0, "whoever", "more", number, Decimal(0))

    @rule(who=customers, word=words, number=st.integers(1, 2), keyed=st.booleans())
    def say_a_word(self, who: str, word: str, number: int, keyed: bool) -> None:
        actor = self.actor(who)
        key = self.new_key() if keyed else None
        body = {"code": word.lower(), "idempotency_key": key}

        def expect(answer: Answer) -> Said:
            return self.terms.redeem(actor, word, key, answer.body.get("transaction_id", ""))

        for _ in range(number * (3 if word == UNKNOWN_CODE else 1)):
            said = self.ask(Request("promotion", "credit-coupons/redeem", actor, body, expect))
            if said is not None:
                self.note("promotion", said.body["discount_type"])

    # Time

    @rule(by=spans)
    def pass_time(self, by: timedelta) -> None:
        before = self.shared.now
        self.wait(by)
        if before.month != self.shared.now.month:
            self.note("time", "another month")

    @rule(
        what=st.sampled_from(("a hold", "a hold", "a lot", "a lot", "a month")),
        which=recent,
        late=st.sampled_from((timedelta(seconds=-1), timedelta(0), timedelta(seconds=1))),
    )
    def wait_for(self, what: str, which: int, late: timedelta) -> None:
        """To the end of a hold, a lot or a calendar month, give or take."""
        now = self.shared.now
        purses = self.credits.customers.values()
        times = {
            "a hold": [
                r.expires_at for r in self.credits.reservations.values() if r.status == "held"
            ],
            "a lot": [
                lot.expires_at for purse in purses for lot in purse.open_lots() if lot.expires_at
            ],
            "a month": [months_later(now.replace(day=1, hour=0, minute=0, second=0), 1)],
        }[what]
        ahead = sorted((at for at in times if at + late > now), reverse=True)
        if ahead:
            self.pass_time(pick(ahead, which) + late - now)

    @rule()
    def upkeep(self) -> None:
        """As the worker does it."""
        holds, lots = self.tend("expire_holds"), self.tend("expire_credits")
        months = self.tend("allocate_monthly_credits")
        assert holds == {"expired": self.credits.expire_holds()}
        expired = self.credits.expire()
        compare(exact(lots), expired)
        kept = [
            lot
            for purse in self.credits.customers.values()
            for lot in purse.open_lots()
            if lot.source == "rollover"
        ]
        given = self.terms.allocate_monthly(self._id_under)
        compare(exact(months), given)
        done = {"holds": holds["expired"], "lots": expired["credits"], "kept": kept, **given}
        self.note("credit upkeep", *(name for name, number in done.items() if number))

    def tend(self, procedure: str) -> Any:
        return self.stage.world.call(f"public.{procedure}", {}, self.stage.world.worker)

    def _id_under(self, user: Any, key: str) -> str:
        """Monthly credits are nobody's request, so no answer has told their id."""
        [row] = self.stage.world.rows(
            "select id from credit_transactions where user_id = %s and idempotency_key = %s",
            (user, key),
        )
        return str(row["id"])

    @precondition(lambda self: self.credits.customers)
    @rule(who=customers)
    def look(self, who: str) -> None:
        """What a customer is told: the balance, the lots in the order of spending, the cap."""
        actor, user = self.actor(who), self.user(who)
        told = [
            (self.stage.post(actor, slug, {}), expected)
            for slug, expected in (
                ("credits/balance", self.credits.balance(user)),
                ("credits/lots", self.credits.lots(user)),
                ("credit-reservations/monthly-cap", self.credits.monthly_cap(user)),
            )
        ]
        for answer, expected in told:
            assert answer.status == 200, answer.body
            compare(answer.body, expected)
        self.note("credit look", "lots" if told[1][1]["lots"] else "nothing")


def exact(answer: dict[str, Any]) -> dict[str, Any]:
    """What a procedure said, its amounts to the sixth decimal place."""
    return {
        name: round(Decimal(repr(number)), 6) if isinstance(number, float) else number
        for name, number in answer.items()
    }

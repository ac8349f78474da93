"""Steps with coupons: bought, once or again, revoked, refunded."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Actor, Event, Said
from tests.machine.model_coupons import Coupon, Template
from tests.machine.stage import SERVICE, Answer
from tests.machine.steps import anything, deciders, pick, reasons, recent, users
from tests.machine.steps_decisions import DecisionSteps
from tests.machine.steps_points import PointsSteps

offers: Final = st.sampled_from((0, 1, 1, 2, 2, 3, 3, 4))


class CouponSteps(PointsSteps, DecisionSteps):
    """What users buy, and what administrators take back. Points and coupons share their keys."""

    def __init__(self) -> None:
        super().__init__()
        self.bought: list[tuple[Actor, Template, str]] = []
        self.undone: list[tuple[Actor, Coupon, str, bool | None]] = []

    @rule(who=users, template=offers, number=st.integers(1, 4))
    def redeem(self, who: str, template: int, number: int) -> None:
        for _ in range(number):
            self.buy(self.actor(who), self.stage.templates[template], self.new_key(), "redeem")

    @rule(who=users, template=st.sampled_from((0, 1, 1, 2, 3)), number=st.integers(1, 4))
    def treat(self, who: str, template: int, number: int) -> None:
        """Somebody is given points and buys coupons, so that the tills have something to do."""
        self.give((self.actor(SERVICE), self.actor(who), 100, self.new_key()), "award")
        self.redeem(who, template, number)

    @precondition(lambda self: self.bought)
    @rule(which=recent)
    def redeem_again(self, which: int) -> None:
        answer = self.buy(*pick(self.bought, which), "redeem again")
        self.note("redeem again", "shown" if answer.body["coupon_code"] else "not shown")

    @precondition(lambda self: self.bought or self.sent)
    @rule(which=recent, template=offers)
    def redeem_otherwise(self, which: int, template: int) -> None:
        """Under a key that came with something else."""
        earlier = [(self.who(it.user), it.nonce) for it in self.sent[-5:]]
        earlier += [(who, key) for who, _, key in self.bought[-5:]]
        who, key = pick(earlier, which)
        self.buy(who, self.stage.templates[template], key, "redeem otherwise")

    def buy(self, who: Actor, template: Template, key: str, rule: str) -> Answer:
        body = {"template_id": template.id, "idempotency_key": key}
        answer = self.stage.post(who, "redeem-coupon", body)

        def expect() -> Said:
            assert who.user is not None
            said, coupon = self.coupons.redeem(who.user, template, key)
            if not said.replayed:
                coupon.id, coupon.code = answer.body.get("coupon_id"), answer.body["coupon_code"]
                said.body.update(coupon_id=coupon.id, coupon_code=coupon.code)
                assert coupon.code
                self.bought.append((who, template, key))
            return said

        self.agree(rule, answer, expect, of=template.name)
        return answer

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=deciders, which=anything, reason=reasons, refund=st.booleans())
    def revoke(self, by: str, which: int, reason: str, refund: bool) -> None:
        self.end(self.actor(by), pick(self.coupons.coupons, which), reason, refund)

    @precondition(lambda self: self.undone)
    @rule(which=recent)
    def undo_again(self, which: int) -> None:
        actor, coupon, reason, refund = pick(self.undone, which)
        if refund is None:
            self.give_back(actor, coupon, reason)
        else:
            self.end(actor, coupon, reason, refund)

    def end(self, actor: Actor, coupon: Coupon, reason: str, refund: bool) -> None:
        body = {"coupon_id": coupon.id, "reason": reason, "refund": refund}
        answer = self.stage.post(actor, "coupons/revoke", body)
        said = self.agree(
            "revoke",
            answer,
            lambda: self.refunded(self.coupons.revoke(actor, coupon, reason, refund), answer),
        )
        if said is not None:
            self.undone.append((actor, coupon, reason, refund))
            if refund:
                self.note("revoke", "refunded")

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=deciders, which=anything, reason=reasons)
    def refund(self, by: str, which: int, reason: str) -> None:
        self.give_back(self.actor(by), pick(self.coupons.coupons, which), reason)

    def give_back(self, actor: Actor, coupon: Coupon, reason: str) -> None:
        body = {"coupon_id": coupon.id, "reason": reason}
        answer = self.stage.post(actor, "coupons/refund", body)
        said = self.agree(
            "refund",
            answer,
            lambda: self.refunded(self.coupons.refund(actor, coupon, reason), answer),
        )
        if said is not None:
            self.undone.append((actor, coupon, reason, None))
            self.note("refund", coupon.status)

    def refunded(self, outcome: tuple[Said, Event | None], answer: Answer) -> Said:
        said, event = outcome
        if event is not None:
            event.id = event.id or answer.body.get("refund_points_event_id")
            said.body["refund_points_event_id"] = event.id
        return said

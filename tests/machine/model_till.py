"""The model of a till: whose code is shown to whom, held for a purchase, used once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Final
from uuid import UUID

from tests.machine.model import Actor, Refused, Said, Shared
from tests.machine.model_coupons import Coupon, Template

FAILURES_MAX: Final = 4  # set by the operator, so that a few wrong codes come up against it
FAILURES_WINDOW: Final = timedelta(minutes=15)


@dataclass(slots=True)
class Till:
    """Everything that comes of showing a code, wrong ones too."""

    shared: Shared
    failures: dict[UUID, tuple[datetime, int]] = field(default_factory=dict)

    def verify(self, by: Actor, coupon: Coupon | None) -> Said:
        """Somebody asks whether a code is good. No coupon is a code that nobody has."""
        self.listen(by)
        now = self.shared.now
        if coupon is None or (coupon.owner != by.user and not self._usable(by, coupon)):
            raise self.wrong(by)
        standing = coupon.standing(now)
        mine = standing == "held" and coupon.held_by == by
        template = coupon.template
        return Said(
            {
                "valid": standing == "issued" or mine, "status": standing, "coupon_id": coupon.id,
                **_terms(template), "partner_name": template.partner,
                "expires_at": coupon.expires_at,
            }
        )  # fmt: skip

    def consume(self, by: Actor, coupon: Coupon | None, key: str) -> Said:
        """It is used up, once."""
        coupon = self._presented(by, coupon)
        replayed = coupon.status == "redeemed" and (coupon.used_by, coupon.used_key) == (by, key)
        if not replayed:
            if not self._usable(by, coupon):
                raise self.wrong(by)
            if coupon.standing(self.shared.now) == "held" and coupon.hold_key != key:
                raise Refused("coupon_held")
            coupon.move("redeemed")
            coupon.used_at, coupon.used_by, coupon.used_key = self.shared.now, by, key
        body = {
            "coupon_id": coupon.id, "status": "redeemed", "redeemed_at": coupon.used_at,
            "redeemed_by": str(by.user or "service"), **_terms(coupon.template),
        }  # fmt: skip
        return Said(body, replayed)

    def hold(self, by: Actor, coupon: Coupon | None, key: str, seconds: int) -> Said:
        """It is kept for a purchase that is under way."""
        coupon = self._presented(by, coupon)
        if not self._usable(by, coupon):
            raise self.wrong(by)
        now = self.shared.now
        replayed = coupon.standing(now) == "held"
        if replayed and coupon.hold_key != key:
            raise Refused("coupon_held")
        if not replayed:
            coupon.move("held")
            coupon.held_until = min(now + timedelta(seconds=seconds), coupon.expires_at)
            coupon.held_by, coupon.hold_key = by, key
        body = {"coupon_id": coupon.id, "status": "held", "held_until": coupon.held_until}
        return Said(body, replayed)

    def release(self, by: Actor, coupon: Coupon | None, key: str) -> Said:
        """The purchase did not happen."""
        coupon = self._presented(by, coupon)
        if not self._usable(by, coupon):
            raise self.wrong(by)
        now = self.shared.now
        if coupon.held_under(now) != (by, key):
            raise Refused("coupon_not_held")
        replayed = coupon.standing(now) == "issued"
        coupon.move("issued")
        return Said({"coupon_id": coupon.id, "status": "issued"}, replayed)

    def listen(self, by: Actor) -> None:
        """Whoever has shown too many wrong codes is not heard."""
        if by.user in self.failures:
            since, failures = self.failures[by.user]
            left = since + FAILURES_WINDOW - self.shared.now
            if failures >= FAILURES_MAX and left > timedelta(0):
                seconds = ceil(left.total_seconds())
                raise Refused("rate_limited", "coupon_failures_per_user", seconds)

    def _presented(self, by: Actor, coupon: Coupon | None) -> Coupon:
        self.listen(by)
        if coupon is None or (coupon.owner != by.user and not self._at_till(by, coupon)):
            raise self.wrong(by)
        if coupon.owner == by.user:
            raise Refused("forbidden")
        return coupon

    def _at_till(self, by: Actor, coupon: Coupon) -> bool:
        return by.user is None or by.partner == coupon.template.partner

    def _usable(self, by: Actor, coupon: Coupon) -> bool:
        standing = coupon.standing(self.shared.now)
        return self._at_till(by, coupon) and (
            standing == "issued" or (standing == "held" and coupon.held_by == by)
        )

    def wrong(self, by: Actor) -> Refused:
        """Count it on whoever showed it; the answer is the same for every reason."""
        if by.user is not None:
            now = self.shared.now
            since, failures = self.failures.get(by.user, (now, 0))
            over = since + FAILURES_WINDOW <= now
            self.failures[by.user] = (now, 1) if over else (since, failures + 1)
        return Refused("coupon_not_valid")

    def clean_failures(self) -> int:
        """Forget the counts of wrong codes whose time is over; how many there were."""
        due = [u for u, (at, _) in self.failures.items() if at + FAILURES_WINDOW <= self.shared.now]
        for user in due:
            del self.failures[user]
        return len(due)


def _terms(template: Template) -> dict[str, str]:
    return {
        "template_name": template.name, "coupon_value_type": "fixed_amount", "coupon_value": "5.00",
    }  # fmt: skip

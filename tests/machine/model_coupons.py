"""The model of coupons: bought, and ended by a hand or by time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.machine.model import CODE_SHOWN, Actor, Event, Refused, Said, Shared


@dataclass(slots=True)
class Template:
    """A coupon on offer, and how much of it is sold."""

    name: str
    cost: int
    partner: str
    days: int = 1
    per_user: int | None = None
    overall: int | None = None
    budget: int | None = None
    active: bool = True
    issued: int = 0
    id: str = ""  # the server's

    @property
    def counted(self) -> bool:
        return self.overall is not None or self.budget is not None

    @property
    def sold_out(self) -> bool:
        return (self.overall is not None and self.issued >= self.overall) or (
            self.budget is not None and (self.issued + 1) * self.cost > self.budget
        )


@dataclass(slots=True)
class Deed:
    """Who ended a coupon or gave its points back, why and when."""

    by: str
    reason: str
    at: datetime
    event: Event | None = None

    def is_of(self, by: Actor, reason: str) -> bool:
        return (self.by, self.reason) == (by.signature, reason)


@dataclass(slots=True, eq=False)
class Coupon:
    """A coupon as it is stored; what it counts as goes by the time as well."""

    template: Template
    owner: UUID
    issued_at: datetime
    remaining: int  # what its owner had left then
    status: str = "issued"
    held_until: datetime | None = None
    held_by: Actor | None = None
    hold_key: str | None = None
    used_at: datetime | None = None
    used_by: Actor | None = None
    used_key: str | None = None
    revoked: Deed | None = None
    refund: Deed | None = None
    id: str | None = None  # the server's
    code: str = ""

    @property
    def refunded(self) -> bool:
        return self.refund is not None

    @property
    def expires_at(self) -> datetime:
        return self.issued_at + timedelta(days=self.template.days)

    def standing(self, now: datetime) -> str:
        """What it counts as now."""
        if self.status in ("issued", "held") and self.expires_at <= now:
            return "expired"
        return "issued" if self.lapsed(now) else self.status

    def lapsed(self, now: datetime) -> bool:
        """Whether it was held, and the hold has ended by itself."""
        return self.held_until is not None and self.held_until <= now

    def held_under(self, now: datetime) -> tuple[Actor | None, str | None]:
        return (None, None) if self.lapsed(now) else (self.held_by, self.hold_key)

    def move(self, status: str) -> None:
        self.status = status
        self.held_until = None


@dataclass(slots=True)
class Coupons:
    """Everything about coupons but the till. `shared` is what the points go by as well."""

    shared: Shared
    coupons: list[Coupon] = field(default_factory=list)
    bought: dict[tuple[UUID, str, str], Coupon] = field(default_factory=dict)

    # Buying

    def redeem(self, user: UUID, template: Template, key: str) -> tuple[Said, Coupon]:
        """Points become a coupon."""
        now, book = self.shared.now, self.shared.books[user]
        replayed = (user, template.id, key) in self.bought
        if replayed:
            coupon = self.bought[user, template.id, key]
            nonce = self.shared.nonces.get((user, key))
            shown = nonce and nonce.purchase is coupon and now - nonce.created_at < CODE_SHOWN
            return Said(self._issued(coupon, coupon.code if shown else None), True), coupon
        if (user, key) in self.shared.nonces:
            raise Refused("nonce_reused")
        if not template.active:
            raise Refused("template_not_found")
        if template.sold_out:
            raise Refused("template_exhausted")
        if book.available < template.cost:
            raise Refused("insufficient_points")
        has = sum(
            c.owner == user and c.template is template and not c.refunded for c in self.coupons
        )
        if template.per_user is not None and has >= template.per_user:
            raise Refused("coupon_limit_reached")
        self.shared.post(self.shared.record(user, "redeem_coupon", -template.cost, "validated"))
        template.issued += 1
        coupon = Coupon(template, user, now, book.available)
        self.coupons.append(coupon)
        self.bought[user, template.id, key] = coupon
        self.shared.claim((user, key), coupon)
        return Said(self._issued(coupon, coupon.code)), coupon

    @staticmethod
    def _issued(coupon: Coupon, code: str | None) -> dict[str, Any]:
        return {
            "success": True, "coupon_id": coupon.id, "expires_at": coupon.expires_at,
            "points_cost": coupon.template.cost, "points_remaining": coupon.remaining,
            "coupon_code": code,
        }  # fmt: skip

    # What administrators do

    def revoke(
        self, by: Actor, coupon: Coupon, reason: str, refund: bool
    ) -> tuple[Said, Event | None]:
        """It is ended for good, and its points are given back when asked to."""
        self._administered(by, reason)
        if coupon.status == "redeemed":
            raise Refused("coupon_used")
        replayed = False
        if coupon.status == "revoked":
            assert coupon.revoked is not None
            together = coupon.refund is not None and coupon.refund.at == coupon.revoked.at
            replayed = coupon.revoked.is_of(by, reason) and refund == together
            if not replayed:
                raise Refused("coupon_revoked")
        elif refund and coupon.refunded:
            raise Refused("coupon_refunded")
        if not replayed:
            coupon.move("revoked")
            coupon.revoked = Deed(by.signature, reason, self.shared.now)
            if refund:
                self._give_back(by, coupon, reason)
        assert coupon.revoked is not None
        body = {
            "coupon_id": coupon.id, "user_id": str(coupon.owner), "status": "revoked",
            "revoked_at": coupon.revoked.at, "revoked_by": by.signature,
            "points_refunded": coupon.template.cost if refund else 0,
        }  # fmt: skip
        return Said(body, replayed), coupon.refund.event if refund and coupon.refund else None

    def refund(self, by: Actor, coupon: Coupon, reason: str) -> tuple[Said, Event | None]:
        """Its points are given back, once; what could still be used is ended."""
        self._administered(by, reason)
        replayed = coupon.refund is not None and coupon.refund.is_of(by, reason)
        if coupon.refund is None:
            if coupon.status == "redeemed":
                raise Refused("coupon_used")
            if coupon.status in ("issued", "held"):
                past = coupon.expires_at <= self.shared.now
                coupon.move("expired" if past else "revoked")
                coupon.revoked = Deed(by.signature, reason, self.shared.now)
            self._give_back(by, coupon, reason)
        elif not replayed:
            raise Refused("coupon_refunded")
        assert coupon.refund is not None
        body = {
            "coupon_id": coupon.id, "user_id": str(coupon.owner), "status": coupon.status,
            "refunded_at": coupon.refund.at, "refunded_by": by.signature,
            "points_refunded": coupon.template.cost,
        }  # fmt: skip
        return Said(body, replayed), coupon.refund.event

    @staticmethod
    def _administered(by: Actor, reason: str) -> None:
        if not by.administers:
            raise Refused("forbidden")
        if not reason.strip():
            raise Refused("reason_required")

    def _give_back(self, by: Actor, coupon: Coupon, reason: str) -> None:
        cost = coupon.template.cost
        event = self.shared.record(coupon.owner, "coupon_refund", cost, "validated")
        self.shared.post(event)
        coupon.refund = Deed(by.signature, reason, self.shared.now, event)
        coupon.template.issued -= 1

    # What time does

    def mark_expired(self) -> dict[str, int]:
        """Write down what time has done."""
        now = self.shared.now
        open_ones = [c for c in self.coupons if c.status in ("issued", "held")]
        expired = [c for c in open_ones if c.expires_at <= now]
        for coupon in expired:
            coupon.move("expired")
        released = [c for c in open_ones if c.status == "held" and c.lapsed(now)]
        for coupon in released:
            coupon.move("issued")
            coupon.held_by = coupon.hold_key = None
        return {"expired": len(expired), "released": len(released)}

"""The model of credits: given, used, reserved before they are used, given back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.machine.model import Actor, Refused, Said, Shared
from tests.machine.model_prices import cost_of
from tests.machine.model_purse import FOREVER, ZERO, CreditLot, Purse, months_later


@dataclass(slots=True)
class Reservation:
    """What was set aside, and how it ended."""

    id: str
    user: UUID
    amount: Decimal
    model: str
    level: str
    tier: str
    by_user: bool
    expires_at: datetime
    status: str = "held"
    ended: tuple[Any, dict[str, Any]] | None = None  # how, and what was answered

    def standing(self, now: datetime) -> str:
        """Of what has no hold, the clock says that it has ended."""
        past = self.status == "held" and not self.amount and self.expires_at <= now
        return "expired" if past else self.status


@dataclass(slots=True)
class Customer(Purse):
    """A purse, and on which terms it is used."""

    tier: str = "free"
    cap: Decimal | None = None
    allocated_at: datetime | None = None
    allocation_due: datetime | None = None

    def spent(self, now: datetime) -> Decimal:
        """What this month has cost."""
        return self.months.get(f"{now:%Y-%m}", ZERO)

    def room(self, now: datetime) -> Decimal | None:
        """What this month may cost yet."""
        if self.cap is None:
            return None
        return max(ZERO, self.cap - self.spent(now) - self.held)

    def afford(self, amount: Decimal, now: datetime) -> None:
        room = self.room(now)
        if room is not None and amount > room:
            raise Refused("monthly_cap_reached")
        if amount > self.spendable and amount:
            raise Refused("insufficient_credits")


@dataclass(slots=True)
class Credits:
    """Everything about credits but tiers and promotions. The server's ids come from its answers."""

    shared: Shared
    customers: defaultdict[UUID, Customer] = field(default_factory=lambda: defaultdict(Customer))
    reservations: dict[str, Reservation] = field(default_factory=dict)
    said: dict[tuple[UUID, str], tuple[Any, dict[str, Any]]] = field(default_factory=dict)

    @contextmanager
    def whole(self, user: UUID) -> Iterator[Customer]:
        """Done whole, or not at all."""
        before = deepcopy(self.customers[user])
        try:
            yield self.customers[user]
        except Refused:
            self.customers[user] = before
            raise

    def before(self, user: UUID, key: str | None, request: Any) -> Said | None:
        """What was said to this request under this key before."""
        if key is None or (user, key) not in self.said:
            return None
        first, body = self.said[user, key]
        if first != request:
            raise Refused("nonce_reused")
        return Said(body, True)

    def say(self, user: UUID, key: str | None, request: Any, body: dict[str, Any]) -> Said:
        if key is not None:
            self.said[user, key] = request, body
        return Said(body)

    def allocate(
        self, by: Actor, user: UUID, amount: Decimal, terms: dict[str, Any], key: str, id: str
    ) -> Said:
        """An administrator or a program gives credits, or takes some."""
        if not by.administers:
            raise Refused("forbidden")
        if user == by.user:
            raise Refused("own_event")
        with self.whole(user) as purse:
            purse.expire(self.shared.now)
            request = ("allocate", amount, tuple(sorted(terms.items())))
            known = self.before(user, key, request)
            if known is not None:
                return known
            if amount < 0:
                if -amount > purse.spendable:
                    raise Refused("insufficient_credits")
                purse.spend("adjustment", -amount)
            else:
                lot = CreditLot(
                    id, "bonus", terms["priority"], amount, ZERO, terms["expires_at"],
                    self.shared.now,
                )  # fmt: skip
                purse.give("bonus", amount, lot)
            body = {"transaction_id": id, "new_balance": purse.balance}
            return self.say(user, key, request, body)

    def deduct(
        self, user: UUID, amount: Decimal | None, use: Any, key: str | None, id: str
    ) -> Said:
        """What was used is charged: an amount, or the price of (tokens, model, level)."""
        now, purse = self.shared.now, self.customers[user]
        purse.expire(now)
        request = ("deduct", amount, use)
        known = self.before(user, key, request)
        if known is not None:
            return known
        more: dict[str, Any] = {}
        if amount is None:
            amount = cost_of(*use, purse.tier)
            more = {"model": use[1], "power_level": use[2]}
        purse.afford(amount, now)
        purse.charge(id, amount, now)
        body = {"transaction_id": id, "cost": amount, "new_balance": purse.balance, **more}
        return self.say(user, key, request, body)

    def refund(
        self, by: Actor, user: UUID, charge_id: str, amount: Decimal | None, key: str, id: str
    ) -> Said:
        """What a usage cost is given back, all that is left of it or a part."""
        if not by.administers:
            raise Refused("forbidden")
        if user == by.user:
            raise Refused("own_event")
        with self.whole(user) as purse:
            purse.expire(self.shared.now)
            request = ("refund", charge_id, amount)
            known = self.before(user, key, request)
            if known is not None:
                return known
            if charge_id not in purse.charges:
                raise Refused("transaction_not_found")
            charge = purse.charges[charge_id]
            left = charge.amount - charge.refunded
            if not left or (amount or ZERO) > left:
                raise Refused("refund_exceeded")
            purse.refund(charge, amount or left, id, self.shared.now)
            body = {
                "transaction_id": id, "refunded": amount or left, "new_balance": purse.balance,
            }  # fmt: skip
            return self.say(user, key, request, body)

    def set_cap(self, user: UUID, cap: Decimal | None) -> Said:
        self.customers[user].cap = cap
        return Said(self.monthly_cap(user))

    def monthly_cap(self, user: UUID) -> dict[str, Any]:
        """How the cap stands."""
        now, purse = self.shared.now, self.customers[user]
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return {
            "monthly_cap": purse.cap, "spent": purse.spent(now),
            "reserved": purse.held, "remaining": purse.room(now),
            "resets_at": months_later(first, 1),
        }  # fmt: skip

    def lots(self, user: UUID) -> dict[str, Any]:
        """What there is, lot by lot, as time has left it."""
        now, purse = self.shared.now, deepcopy(self.customers[user])
        for lot, keeps, loses in list(purse.ends(now)):
            lot.remaining -= loses
            purse.balance -= loses
            if keeps:
                assert lot.expires_at is not None
                lot.source, lot.expires_at = "rollover", months_later(lot.expires_at, 1)
        lots = purse.open_lots()
        ahead = [lot for lot in lots if now < (lot.expires_at or FOREVER) < FOREVER]
        soonest = min((lot.expires_at for lot in ahead if lot.expires_at), default=None)
        return {
            "balance": purse.balance, "reserved": purse.held, "available": purse.available,
            "lots": [
                {
                    "grant_id": lot.id, "source": lot.source, "priority": lot.priority,
                    "amount": lot.amount, "remaining": lot.remaining, "expires_at": lot.expires_at,
                }
                for lot in lots
            ],
            "expires_next": soonest and {
                "credits": sum(lot.remaining for lot in ahead if lot.expires_at == soonest),
                "expires_at": soonest,
            },
        }  # fmt: skip

    def balance(self, user: UUID) -> dict[str, Any]:
        """What a user is told when they ask what they have."""
        purse = self.customers[user]
        ended = sum(loses for *_, loses in purse.ends(self.shared.now))
        return {
            "balance": purse.balance - (ended if purse.due <= self.shared.now else ZERO),
            "tier": purse.tier, "monthly_cap": purse.cap,
        }  # fmt: skip

    # What upkeep does

    def expire_holds(self) -> int:
        """Take back what was reserved for calls that never ended."""
        due = [
            r
            for r in self.reservations.values()
            if r.status == "held" and r.amount and r.expires_at <= self.shared.now
        ]
        for reservation in due:
            reservation.status = "expired"
            self.customers[reservation.user].held -= reservation.amount
        return len(due)

    def expire(self) -> dict[str, Any]:
        """End the lots of those who do not come by themselves."""
        # Who has reserved all that is left loses nothing yet.
        due = [
            purse
            for purse in self.customers.values()
            if purse.due <= self.shared.now and purse.available > 0
        ]
        return {
            "expired": len(due), "credits": sum((p.expire(self.shared.now) for p in due), ZERO),
        }  # fmt: skip

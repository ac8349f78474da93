"""The model of tiers with their monthly credits, and of promotional codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tests.machine.model import Actor, Refused, Said, Shared
from tests.machine.model_credits import Credits, Customer
from tests.machine.model_prices import OWED_MAX, TIERS
from tests.machine.model_purse import ZERO, CreditLot, months_later
from tests.machine.model_till import Till

UNKNOWN_CODE: Final = "NOBODYS"


@dataclass(slots=True)
class Promotion:
    """A word that brings something, so often and so long."""

    code: str
    kind: str
    value: Decimal
    uses_max: int | None = None
    per_user: int = 1
    tier: str | None = None
    lasts: timedelta | None = None  # what it brings
    until: datetime | None = None  # it can be redeemed
    users: list[UUID] = field(default_factory=list)

    def brings(self, tier: str) -> Decimal | None:
        """How many credits; None where it has nothing to give."""
        if self.kind == "percentage":
            return ZERO
        if self.kind != "free_month":
            return self.value
        monthly = TIERS[self.tier or tier].monthly
        return monthly * self.value if monthly else None

    def ends(self, now: datetime) -> datetime | None:
        """When what it brings ends."""
        if self.kind == "percentage":
            return self.until or now + timedelta(days=90)
        if self.kind == "free_month":
            return months_later(now, int(self.value))
        return now + self.lasts if self.lasts else None


@dataclass(slots=True)
class Terms:
    """What changes on which terms somebody has credits, and what comes by those terms."""

    shared: Shared
    credits: Credits
    till: Till
    promotions: dict[str, Promotion] = field(default_factory=dict)
    # When the month's credits came, how many, and when that month ends.
    given: dict[tuple[UUID, str], tuple[datetime, Decimal, datetime]] = field(default_factory=dict)

    def switch(self, by: Actor, user: UUID, tier: str) -> Said:
        """Somebody moves into another tier, or is moved."""
        if not by.administers and user != by.user:
            raise Refused("forbidden")
        now, old, new = self.shared.now, self.credits.customers[user].tier, TIERS[tier]
        body = {"user_id": str(user), "tier": tier, "previous_tier": old}
        if old == tier:
            return Said(body)
        if user == by.user and new.position > TIERS[old].position:
            raise Refused("forbidden")
        with self.credits.whole(user) as purse:
            purse.expire(now)
            if new.monthly is not None and purse.available < 0:
                raise Refused("credits_owed")
            purse.allocation_due = self._due(user, purse, new.monthly) if new.monthly else None
            purse.tier, purse.rollover_max = tier, new.rollover_max
            purse.floor = -OWED_MAX if new.monthly is None else ZERO
        return Said(body)

    def _due(self, user: UUID, purse: Customer, monthly: Decimal) -> datetime:
        """At once, unless as many came already in the month that goes on."""
        now, since = self.shared.now, purse.allocated_at
        ends = [
            end
            for (who, _), (at, amount, end) in self.given.items()
            if since is not None and who == user and at >= since and amount >= monthly
        ]
        if ends and purse.allocation_due is not None and purse.allocation_due > now:
            return purse.allocation_due
        return max([now, *ends])

    def allocate_monthly(self, id_of: Callable[[UUID, str], str]) -> dict[str, Any]:
        """Give everybody whose month has begun what their tier gives; missed months are gone."""
        now = self.shared.now
        amounts = []
        for user, purse in self.credits.customers.items():
            if purse.allocation_due is None or purse.allocation_due > now:
                continue
            purse.expire(now)
            monthly = TIERS[purse.tier].monthly
            months = 1
            while (ends := months_later(purse.allocation_due, months)) <= now:
                months += 1
            day = f"allocation:{purse.allocation_due:%Y-%m-%d}"
            keys = [day, f"{day}:{purse.tier}"]
            most = max(self.given.get((user, key), (now, ZERO, now))[1] for key in keys)
            if monthly and monthly > most:
                key = next(key for key in keys if (user, key) not in self.given)
                self.given[user, key] = now, monthly, ends
                lot = CreditLot(id_of(user, key), "allocation", 100, monthly, ZERO, ends, now)
                purse.give("allocation", monthly, lot)
                purse.allocated_at = now
                amounts.append(monthly)
            purse.allocation_due = ends if monthly else None
        return {"allocated": len(amounts), "credits": sum(amounts, ZERO)}

    def redeem(self, by: Actor, code: str, key: str | None, id: str) -> Said:
        """Somebody says a word."""
        self.till.listen(by)
        assert by.user is not None
        user, now = by.user, self.shared.now
        known = self.credits.before(user, key, ("promotion", code))
        if known is not None:
            return known
        it, purse = self.promotions.get(code), self.credits.customers[user]
        if it is None:
            raise self.till.wrong(by)
        if it.users.count(user) >= it.per_user:
            raise Refused("coupon_used")
        credits = it.brings(purse.tier)
        gone = it.uses_max is not None and len(it.users) >= it.uses_max
        if gone or credits is None or (it.until is not None and it.until <= now):
            raise self.till.wrong(by)
        it.users.append(user)
        purse.expire(now)
        ends = it.ends(now)
        source, priority = ("bonus", 50) if it.kind == "bonus" else ("promotion", 100)
        purse.give("bonus", credits, CreditLot(id, source, priority, credits, ZERO, ends, now))
        body = {
            "code": code, "discount_type": it.kind, "discount_value": it.value,
            "credits": credits, "new_balance": purse.balance, "transaction_id": id,
            "expires_at": ends,
        }  # fmt: skip
        return self.credits.say(user, key, ("promotion", code), body)

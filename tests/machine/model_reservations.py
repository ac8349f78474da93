"""The model of reservations: set aside before a model is called, settled or released after it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from tests.machine.model import Actor, Refused, Said, Shared
from tests.machine.model_credits import Credits, Reservation
from tests.machine.model_prices import LEVELS, PRICES, cost_of
from tests.machine.model_purse import ZERO


class Call(NamedTuple):
    """A call of a model that somebody is about to make."""

    model: str
    level: str
    tokens: int | None
    cost_max: Decimal | None
    seconds: int


class Outcome(NamedTuple):
    """What came of a call."""

    tokens: int | None
    cost: Decimal | None
    success: bool


@dataclass(slots=True)
class Reservations:
    """What happens to reservations."""

    shared: Shared
    credits: Credits

    def reserve(self, by: Actor, user: UUID, call: Call, key: str | None, id: str) -> Said:
        """Credits are set aside, as many as a call can cost."""
        now = self.shared.now
        # Those that are gathered are expired for together, also who is refused or replayed then.
        self.credits.customers[user].expire(now)
        request = (call, by.user is None)
        slot = key and f"reserve {key}"  # these keys are their own
        known = self.credits.before(user, slot, request)
        if known is not None:
            return known
        with self.credits.whole(user) as purse:
            tokens = call.tokens or LEVELS[call.level].tokens
            cost = cost_of(tokens, call.model, call.level, purse.tier)
            if call.model not in PRICES:
                cost = LEVELS[call.level].cost_max
            amount = min(cost, call.cost_max or cost)
            if amount:
                purse.afford(amount, now)
            purse.held += amount
            made = Reservation(
                id, user, amount, call.model, call.level, purse.tier, by.user is not None,
                now + timedelta(seconds=call.seconds),
            )  # fmt: skip
            self.credits.reservations[id] = made
            body = {
                "reservation_id": id, "reserved": amount, "is_price_known": call.model in PRICES,
                "expires_at": made.expires_at, "balance": purse.balance,
                "available": purse.available,
            }  # fmt: skip
            return self.credits.say(user, slot, request, body)

    def settle(self, by: Actor, it: Reservation, outcome: Outcome) -> Said:
        """What the call cost is charged, as far as it can be had."""
        self._expire(by, it)
        self._may(by, it)
        if it.ended and it.ended[0] == outcome:
            return Said(it.ended[1], True)
        now = self.shared.now
        if it.standing(now) != "held":
            raise Refused("reservation_closed")
        purse = self.credits.customers[it.user]
        cost = outcome.cost
        if cost is None:
            cost = cost_of(outcome.tokens, it.model, it.level, it.tier)
        over = max(ZERO, cost - it.amount)
        room = purse.room(now)
        charged = min(cost, it.amount) + max(
            ZERO, min(over, purse.spendable, over if room is None else room)
        )
        purse.held -= it.amount
        purse.charge(it.id, charged, now)
        body = {
            "transaction_id": it.id, "cost": cost, "charged": charged,
            "released": max(ZERO, it.amount - charged), "shortfall": cost - charged,
            "new_balance": purse.balance,
        }  # fmt: skip
        it.status, it.ended = "settled", (outcome, body)
        return Said(body)

    def release(self, by: Actor, it: Reservation) -> Said:
        """The call is not made. What it held of a lot that has ended is not available again."""
        try:
            return self._release(by, it)
        finally:
            self._expire(by, it)

    def _release(self, by: Actor, it: Reservation) -> Said:
        self._may(by, it)
        standing = it.standing(self.shared.now)
        if standing == "released":
            assert it.ended is not None
            return Said(it.ended[1], True)
        if standing != "held":
            raise Refused("reservation_closed")
        purse = self.credits.customers[it.user]
        purse.held -= it.amount
        purse.expire(self.shared.now)
        body = {
            "reservation_id": it.id, "released": it.amount, "available": purse.available,
        }  # fmt: skip
        it.status, it.ended = "released", (None, body)
        return Said(body)

    def _expire(self, by: Actor, it: Reservation) -> None:
        """Whoever asks, it is their own lots that are looked at; a program says whose."""
        purse = self.credits.customers.get(by.user or it.user)
        if purse is not None:
            purse.expire(self.shared.now)

    @staticmethod
    def _may(by: Actor, it: Reservation) -> None:
        """Nobody sees what is another's; and what a program reserved, a program ends."""
        if by.user not in (None, it.user):
            raise Refused("reservation_not_found")
        if by.user is not None and not it.by_user:
            raise Refused("forbidden")

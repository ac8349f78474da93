"""Whatever happens in whatever order: the balance, what is held and the cap are as a few lines of
arithmetic say."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.credits.bank import Bank

STEPS = 120
WHAT_HAPPENS = ["give", "cap", "wait", "deduct", "release"] + ["reserve", "settle"] * 2


@dataclass
class Model:
    """What a user has, by arithmetic."""

    balance: D = D(0)
    spent: D = D(0)
    cap: D | None = None
    reserved: dict[str, tuple[D, datetime]] = field(default_factory=dict)

    @property
    def held(self) -> D:
        return sum((amount for amount, _ in self.reserved.values()), D(0))

    @property
    def available(self) -> D:
        return self.balance - self.held

    @property
    def room(self) -> D:
        """What the cap leaves."""
        return D(10**9) if self.cap is None else max(D(0), self.cap - self.spent - self.held)

    def refusal(self, amount: D) -> str | None:
        """Why so much can neither be reserved nor deducted."""
        if amount > self.room:
            return "monthly_cap_reached"
        return "insufficient_credits" if amount > self.available else None

    def settle(self, reservation: str, cost: D) -> D:
        """What is charged."""
        amount, _ = self.reserved[reservation]
        over = max(D(0), min(cost - amount, self.available, self.room))
        charged = min(cost, amount) + over
        del self.reserved[reservation]
        self.spend(charged)
        return charged

    def spend(self, amount: D) -> None:
        self.balance -= amount
        self.spent += amount


def said(bank: Bank, procedure: str, **arguments: Any) -> tuple[Any, str | None]:
    """The answer, or the code of the refusal."""
    try:
        return bank.call(procedure, **arguments), None
    except psycopg.Error as error:
        return None, error.diag.message_primary


@pytest.mark.parametrize("seed", range(4))
def test_reservations_are_as_arithmetic_says(bank: Bank, seed: int) -> None:
    choose = random.Random(seed)
    bank.world.freeze()
    user = bank.customer()
    model = Model()
    for _ in range(STEPS):
        step(bank, user, model, choose)
        held = bank.balance(user) - bank.available(user)
        assert (bank.balance(user), held) == (model.balance, model.held)
        stands = bank.call("monthly_cap", user_id=user)
        assert D(str(stands["spent"])) == model.spent
        assert D(str(stands["reserved"])) == model.held
        assert stands["remaining"] is None or D(str(stands["remaining"])) == model.room


def step(bank: Bank, user: UUID, model: Model, choose: random.Random) -> None:
    """One thing that happens, to the user and to the model."""
    amount = D(choose.randint(1, 5_000_000)) / 10**6
    what = choose.choice(WHAT_HAPPENS)
    if what == "give":
        bank.give(user, amount)
        model.balance += amount
    elif what == "cap":
        model.cap = choose.choice([None, model.spent + amount, amount])
        bank.call("set_monthly_cap", user_id=user, monthly_cap=model.cap)
    elif what == "wait":
        bank.world.pass_time(timedelta(minutes=choose.randint(1, 9)))
        bank.call("expire_holds", bank.world.worker)
        now = bank.world.now()
        model.reserved = {i: (a, until) for i, (a, until) in model.reserved.items() if until > now}
    elif what == "deduct":
        _, refusal = said(bank, "deduct_credits", user_id=user, amount=amount, model="gpt-4o")
        assert refusal == model.refusal(amount)
        if refusal is None:
            model.spend(amount)
    elif what == "reserve":
        # So many tokens cost more than any amount here.
        limits = {"max_tokens": 10**7, "max_cost": amount}
        answer, refusal = said(bank, "reserve_credits", user_id=user, model="gpt-4o", **limits)
        assert refusal == model.refusal(amount)
        if refusal is None:
            until = datetime.fromisoformat(answer["expires_at"])
            model.reserved[answer["reservation_id"]] = (amount, until)
    elif model.reserved:
        reservation = choose.choice(sorted(model.reserved))
        named = {"user_id": user, "reservation_id": reservation}
        if what == "release":
            bank.call("release_credits", **named)
            del model.reserved[reservation]
        else:
            cost = choose.choice([D(0), amount, model.reserved[reservation][0] + amount])
            answer = bank.call("settle_credits", cost=cost, **named)
            charged = model.settle(reservation, cost)
            assert D(str(answer["charged"])) == charged
            assert D(str(answer["shortfall"])) == cost - charged

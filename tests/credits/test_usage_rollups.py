"""Whatever is used, refunded, imported and folded: every sum is what the events add up to."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import pytest

from tests.credits.meter import Meter, line
from tests.world import NOW

MODELS = ("gpt-4o", "llama", None)
SUMS = (
    "select {key}, sum(events) as events, sum(failures) as failures, sum(tokens) as tokens,"
    " sum(cost) as cost, sum(refunded) as refunded from {table} group by {key} order by {key}"
)


class Life:
    """Random things that happen to usage, in an order that the seed decides."""

    def __init__(self, meter: Meter, seed: int) -> None:
        self.meter = meter
        self.chance = random.Random(seed)
        self.users = [meter.bank.customer(1000) for _ in range(3)]
        self.lines = 1

    def go_on(self) -> None:
        self.chance.choice(
            (self.deduct, self.deduct, self.use, self.bring, self.refund, self.fold)
        )()

    def what(self) -> dict[str, Any]:
        return {
            "model": self.chance.choice(MODELS),
            "provider": self.chance.choice(("openai", None)),
            "power_level": self.chance.choice(("eco", "precision")),
            "tokens_used": self.chance.randrange(10_000),
        }

    def deduct(self) -> None:
        user = self.chance.choice(self.users)
        amount = D(self.chance.randrange(1, 10**6)) / 10**6
        self.meter.bank.call("deduct_credits", user_id=user, amount=amount, **self.what())

    def use(self) -> None:
        at = NOW - timedelta(days=self.chance.randrange(100))
        success = self.chance.random() < 0.5
        user = self.chance.choice(self.users)
        self.meter.use(user, "0.25", success=success, created_at=at, **self.what())

    def bring(self) -> None:
        lines = []
        for _ in range(self.chance.randrange(20)):
            at = datetime(2026, self.chance.randrange(1, 4), 1, tzinfo=UTC)
            at += timedelta(microseconds=self.chance.choice((-1, 0)))
            user = self.chance.choice(self.users)
            lines.append(line(self.lines, user, "0.125", at, **self.what()))
            self.lines += 1
        self.meter.bring(*lines)

    def refund(self) -> None:
        rows = self.meter.world.rows(
            "select user_id, id, -amount - coalesce((select sum(r.amount) from credit_transactions"
            " as r where r.refund_of = t.id), 0) as rest from credit_transactions as t"
            " where transaction_type = 'usage' order by id"
        )
        left = [row for row in rows if row["rest"] > 0]
        if left:
            row = self.chance.choice(left)
            part = row["rest"] if self.chance.random() < 0.5 else row["rest"] / 2
            self.meter.bank.call(
                "refund_credits",
                user_id=None,
                account=str(row["user_id"]),
                transaction_id=row["id"],
                amount=max(round(part, 6), D("0.000001")),
                reason="by chance",
            )

    def fold(self) -> None:
        self.meter.fold(self.chance.randrange(1, 10))


def sums(meter: Meter, table: str, key: str) -> list[dict[str, Any]]:
    return meter.world.rows(SUMS.format(table=table, key=key))  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(4))
def test_the_sums_are_what_the_events_add_up_to(meter: Meter, seed: int) -> None:
    meter.world.freeze()
    life = Life(meter, seed)
    for _ in range(80):
        life.go_on()
        assert meter.faults() == []
    # Once more by queries of the test's own.
    events = (
        "(select e.user_id, date_trunc('month', e.created_at at time zone 'UTC')::date as month,"
        " coalesce(provider, '') as provider, coalesce(model, '') as model,"
        " coalesce(power_level, '') as power_level, 1 as events, (not success)::int as failures,"
        " tokens_used as tokens, cost, coalesce((select sum(amount) from credit_transactions as t"
        " where t.refund_of = e.transaction_id), 0) as refunded from usage_events as e) as x"
    )
    key = "month, provider, model, power_level"
    whole = sums(meter, events, f"user_id, {key}")
    assert sums(meter, "usage_rollups", f"user_id, {key}") == whole
    assert sums(meter, "internal.usage_by_month", key) == sums(meter, events, key)
    assert sum(row["refunded"] for row in whole) > 0
    assert {row["month"].month for row in whole} >= {1, 2, 3}


def test_a_month_is_that_of_utc_wherever_the_session_is(meter: Meter) -> None:
    user = meter.bank.customer(0)
    meter.world.admin.execute("set timezone = 'Asia/Tokyo'")
    meter.use(user, 1, created_at=datetime(2025, 6, 30, 20, tzinfo=UTC))
    assert meter.world.value("select month::text from usage_rollups") == "2025-06-01"
    assert meter.faults() == []


@pytest.mark.parametrize(
    ("breakage", "faults"),
    [
        ("update usage_rollups set events = events + 1", 2),
        ("update usage_rollups set cost = cost + 0.000001", 2),
        ("update usage_rollups set refunded = 1", 2),
        ("delete from usage_rollups", 2),
        ("update usage_rollups set month = month - interval '1 month'", 4),
        ("delete from internal.usage_deltas", 1),
        ("update internal.usage_deltas set tokens = tokens + 1", 1),
        ("insert into internal.usage_totals select 'epoch', 'p', 'm', 'l', 1, 0, 0, 0, 0", 1),
        ("insert into usage_events (user_id, model) select user_id, 'x' from usage_events", 1),
    ],
)
def test_a_sum_that_is_wrong_is_found(meter: Meter, breakage: str, faults: int) -> None:
    meter.world.freeze()
    user: UUID = meter.bank.customer(0)
    meter.use(user, 1, model="gpt-4o", tokens_used=5)
    assert meter.faults() == []
    admin = meter.world.admin
    with admin.transaction(force_rollback=True):
        admin.execute(breakage)  # type: ignore[call-overload]
        assert len(meter.faults()) == faults
        assert len(meter.world.discrepancies()) == faults

"""What a user used, by model, provider, power level and month: exact wherever time is cut."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.credits.meter import Meter, line
from tests.world import NOW, refused

GROUPS = ("model", "provider", "power_level", "month")
TOTALS = ("events", "failures", "tokens", "cost", "refunded")


@pytest.fixture(autouse=True)
def _frozen(meter: Meter) -> None:
    meter.world.freeze()


@pytest.fixture
def user(meter: Meter) -> UUID:
    """Somebody who uses two models of two providers, at the edges of months and within them."""
    user, other = uuid4(), uuid4()
    edges = [datetime(2025, month, 1, tzinfo=UTC) for month in range(1, 13)]
    times = [edge + timedelta(microseconds=micros) for edge in edges for micros in (-1, 0, 1)]
    times += [edge + timedelta(days=12, hours=5) for edge in edges]
    chance = random.Random(7)
    lines = [
        line(
            number,
            who,
            D(chance.randrange(1, 10**6)) / 10**6,
            at,
            model=chance.choice(["gpt-4o", "llama", None]),
            provider=chance.choice(["openai", "local"]),
            power_level=chance.choice(["eco", "balanced", None]),
            success=chance.random() < 0.8,
            tokens_used=chance.randrange(5000),
        )
        for number, at in enumerate(times)
        for who in (user, other)
    ]
    assert meter.bring(*lines)["imported"] == len(lines)
    return user


def expected(meter: Meter, user: UUID, group: str | None, start: Any, end: Any) -> Any:
    """The same from the events, by a query that knows of no sums."""
    name = {"month": "to_char(e.created_at at time zone 'UTC', 'YYYY-MM')"}.get(
        group or "", f"e.{group}" if group else "null::text"
    )
    rows = meter.world.rows(
        f"select {name} as name, count(*) as events, count(*) filter (where not success)"
        " as failures, sum(e.tokens_used)::int as tokens, sum(e.cost) as cost, sum(coalesce(("
        " select sum(t.amount) from credit_transactions as t where t.refund_of = e.transaction_id"
        " ), 0)) as refunded"
        " from usage_events as e where e.user_id = %s and e.created_at >= %s and e.created_at < %s"
        " group by 1",
        (user, start or "-infinity", end or "infinity"),
    )
    return {row["name"]: tuple(row[name] for name in TOTALS) for row in rows}


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    """The sums of an answer, its floats as the decimals they stand for."""
    return tuple(D(str(v)) if isinstance(v, float) else v for v in (row[name] for name in TOTALS))


CUTS = (
    None,
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime(2025, 3, 1, tzinfo=UTC),
    datetime(2025, 3, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2025, 3, 14, tzinfo=UTC),
    datetime(2025, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2025, 4, 1, tzinfo=UTC),
    datetime(2025, 9, 13, 5, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
)


def test_it_is_exact_from_any_moment_to_any_other(meter: Meter, user: UUID) -> None:
    for start in CUTS:
        for end in CUTS:
            if start and end and end < start:
                continue
            when = {"start_date": start, "end_date": end}
            wanted = expected(meter, user, "model", start, end)
            answer = meter.statistics(user, "model", **when)  # type: ignore[arg-type]
            assert {row["model"]: told(row) for row in answer["groups"]} == wanted, when
            assert answer["total"]["events"] == sum(row[0] for row in wanted.values())


@pytest.mark.parametrize("group", GROUPS)
def test_it_is_grouped_as_asked(meter: Meter, user: UUID, group: str) -> None:
    start, end = CUTS[4], CUTS[7]
    answer = meter.statistics(user, group, start_date=start, end_date=end)  # type: ignore[arg-type]
    assert {row[group]: told(row) for row in answer["groups"]} == expected(
        meter, user, group, start, end
    )
    costs = [row["cost"] for row in answer["groups"]]
    names = [row[group] for row in answer["groups"]]
    assert names == sorted(names) if group == "month" else costs == sorted(costs, reverse=True)
    assert sum(D(str(row["share"])) for row in answer["groups"]) == pytest.approx(1, abs=0.001)


def test_without_a_group_there_is_the_total(meter: Meter, user: UUID) -> None:
    answer = meter.statistics(user)
    (wanted,) = expected(meter, user, None, None, None).values()
    assert told(answer["total"]) == wanted
    assert (answer["groups"], answer["from"], answer["to"]) == ([], None, None)


def test_who_used_nothing_has_nothing(meter: Meter) -> None:
    answer = meter.statistics(uuid4(), "model")
    assert answer["total"] == {
        "events": 0,
        "failures": 0,
        "tokens": 0,
        "cost": 0.0,
        "refunded": 0.0,
    }
    assert answer["groups"] == []


def test_what_cost_nothing_has_no_share(meter: Meter) -> None:
    user = uuid4()
    meter.use(user, 0, model="local")
    (group,) = meter.statistics(user, "model")["groups"]
    assert (group["model"], group["cost"], group["share"]) == ("local", 0.0, 0)


def test_what_was_refunded_counts_where_it_was_used(meter: Meter) -> None:
    user = meter.bank.customer(100)
    for number in range(3):
        meter.bank.call(
            "deduct_credits", user_id=user, amount=10 + number, model="gpt-4o", tokens_used=1
        )
    usage = meter.world.rows(
        "select id from credit_transactions where user_id = %s and amount = -11", (user,)
    )[0]["id"]
    for amount in (3, 4):
        meter.bank.call(
            "refund_credits",
            user_id=None,
            account=str(user),
            transaction_id=usage,
            amount=amount,
            reason="it was slow",
        )
    whole = meter.statistics(user, "model")
    part = meter.statistics(user, "model", start_date=NOW - timedelta(minutes=1))
    assert whole["groups"][0]["refunded"] == whole["total"]["refunded"] == 7.0
    assert part["groups"] == whole["groups"]
    assert meter.world.value("select internal.month_spent(%s)", (user,)) == 33 - 7


def test_what_makes_no_sense_is_refused(meter: Meter) -> None:
    with refused("invalid_body", 400, "group_by: "):
        meter.statistics(uuid4(), "user_id")
    with refused("invalid_body", 400, "end_date: "):
        meter.statistics(uuid4(), start_date=NOW, end_date=NOW - timedelta(microseconds=1))


def test_nobody_else_asks(meter: Meter) -> None:
    for role in ("tallybook_worker",):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            meter.bank.call("usage_statistics", meter.world.session(role), user_id=uuid4())


def test_what_failed_counts_also_where_a_month_is_cut(meter: Meter) -> None:
    user = meter.bank.customer()
    at = datetime(2025, 6, 10, tzinfo=UTC)
    meter.use(user, 0, success=False, created_at=at)
    meter.use(user, 1, created_at=at)
    for when in ({}, {"start_date": at, "end_date": at + timedelta(days=1)}):
        assert meter.statistics(user, **when)["total"]["failures"] == 1

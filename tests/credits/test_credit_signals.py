"""What deserves a look: low balances, unusual spending, failures; and nothing that does not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.meter import Meter
from tests.world import NOW, Connection

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOMENT = timedelta(microseconds=1)


@pytest.fixture(autouse=True)
def _frozen(meter: Meter) -> None:
    meter.world.freeze()


@pytest.fixture(params=["tallybook_operator", "service_role"])
def reader(meter: Meter, request: pytest.FixtureRequest) -> Connection:
    """Whoever alerts: an operator, or a program with the service's key."""
    if request.param == "service_role":
        session = meter.world.session()
        session.execute("set role service_role")
        return session
    return meter.world.operator


def listed(reader: Connection, view: str) -> list[dict[str, Any]]:
    return reader.execute(f"select * from public.credit_{view}").fetchall()  # type: ignore[call-overload,no-any-return]


# Low balances


def users(reader: Connection) -> set[UUID]:
    return {row["user_id"] for row in listed(reader, "low_balances")}


def test_who_runs_low_is_listed(meter: Meter, reader: Connection) -> None:
    low, enough = meter.bank.customer("99.999999"), meter.bank.customer(100)
    out = meter.bank.customer(5)
    meter.bank.give(out, -5, "usage")
    assert users(reader) == {low, out}
    (row,) = [row for row in listed(reader, "low_balances") if row["user_id"] == low]
    assert (row["tier"], row["balance"], row["low_balance_below"]) == ("free", D("99.999999"), 100)
    meter.bank.give(enough, "-0.000001", "usage")
    assert users(reader) == {low, out, enough}


def test_who_never_had_any_or_left_or_may_owe_is_not(meter: Meter, reader: Connection) -> None:
    never, left, large = uuid4(), meter.bank.customer(5), meter.bank.customer(5)
    meter.world.admin.execute("insert into user_credits (user_id) values (%s)", (never,))
    meter.world.admin.execute(
        "update user_credits set tier = 'enterprise' where user_id = %s", (large,)
    )
    assert users(reader) == {left}
    meter.world.pass_time(30 * DAY - MOMENT)
    assert users(reader) == {left}
    meter.world.pass_time(MOMENT)
    assert users(reader) == set()


# Unusual spending


def spending(reader: Connection) -> dict[UUID, tuple[Any, ...]]:
    return {
        row["user_id"]: (row["spent"], row["daily_mean"], row["times"])
        for row in listed(reader, "unusual_spending")
    }


def test_three_times_ones_own_mean_is_unusual(meter: Meter, reader: Connection) -> None:
    usual, unusual = uuid4(), uuid4()
    for user, today in ((usual, D("29.999999")), (unusual, D(30))):
        for day in range(1, 31):
            meter.use(user, 10, created_at=NOW - day * DAY)
        meter.use(user, today, created_at=NOW - DAY + MOMENT)
    assert spending(reader) == {unusual: (D(30), D(10), D(3))}


def test_little_is_never_unusual_and_much_from_nothing_is(meter: Meter, reader: Connection) -> None:
    little, much = uuid4(), uuid4()
    meter.use(little, "9.999999")
    meter.use(much, 10)
    assert spending(reader) == {much: (D(10), D(0), None)}


def test_what_was_spent_before_yesterday_is_no_news(meter: Meter, reader: Connection) -> None:
    meter.use(uuid4(), 1000, created_at=NOW - DAY)
    assert spending(reader) == {}


# Failures


def spikes(reader: Connection) -> dict[str, tuple[Any, ...]]:
    return {
        row["model"]: (row["failures"], row["events"], row["hourly_mean"], row["times"])
        for row in listed(reader, "failure_spikes")
    }


def fail(meter: Meter, model: str, times: int, ago: timedelta = timedelta()) -> None:
    for _ in range(times):
        meter.use(uuid4(), model=model, provider="p", success=False, created_at=NOW - ago)


def test_a_model_that_fails_more_than_it_did_is_listed(meter: Meter, reader: Connection) -> None:
    fail(meter, "new", 5)
    meter.use(uuid4(), 1, model="new", provider="p")
    meter.use(uuid4(), 1, model="new", provider="another")
    fail(meter, "worse", 6)
    fail(meter, "worse", 48, 2 * HOUR)
    assert spikes(reader) == {"new": (5, 6, D(0), None), "worse": (6, 6, D(2), D(3))}


def test_a_few_failures_and_as_many_as_ever_are_not(meter: Meter, reader: Connection) -> None:
    fail(meter, "few", 4)
    fail(meter, "as ever", 5)
    fail(meter, "as ever", 41, 2 * HOUR)
    fail(meter, "an hour ago", 9, HOUR)
    assert spikes(reader) == {}


def test_what_has_no_name_fails_too(meter: Meter, reader: Connection) -> None:
    for _ in range(5):
        meter.use(uuid4(), success=False)
    assert spikes(reader) == {None: (5, 5, D(0), None)}


# The reports of them


def report(meter: Meter, name: str) -> list[dict[str, Any]]:
    return meter.world.rows(f"select * from report_credit_{name}()", through=meter.world.operator)  # type: ignore[return-value]


def test_reports_show_the_worst_first(meter: Meter) -> None:
    lower, low = meter.bank.customer(1), meter.bank.customer(2)
    meter.use(lower, 20, model="a", provider="p", tokens_used=3)
    meter.use(low, 30, model="a", provider="p")
    fail(meter, "a", 5)
    fail(meter, "b", 6)
    assert [row["user_id"] for row in report(meter, "low_balances")] == [lower, low]
    assert [row["user_id"] for row in report(meter, "unusual_spending")] == [low, lower]
    assert [row["model"] for row in report(meter, "failure_spikes")] == ["b", "a"]
    (tier,) = report(meter, "balances")
    assert tier == {
        "tier": "free", "count": 2, "balance": D(3), "allocated": D(3), "median_balance": D(1),
        "low": 2, "owing": 0,
    }  # fmt: skip
    meter.use(low, 1, created_at=NOW - 62 * DAY)
    first, second = report(meter, "usage")
    assert (first["model"], first["events"], first["failures"], first["cost"]) == ("a", 7, 5, 50)
    assert (second["model"], second["events"]) == ("b", 6)

"""What administrators are shown: everybody's balances and usage, and who spends most."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.credits.meter import Meter
from tests.world import NOW, refused

JUNE = datetime(2025, 6, 15, tzinfo=UTC)
ANALYTICS = (
    "credit_analytics_system",
    "credit_analytics_top_spenders",
    "credit_analytics_distribution",
)


@pytest.fixture(autouse=True)
def _frozen(meter: Meter) -> None:
    meter.world.freeze()


def ask(meter: Meter, what: str, **arguments: Any) -> Any:
    return meter.bank.call(f"credit_analytics_{what}", user_id=None, **arguments)


def put(meter: Meter, tier: str, user: UUID) -> None:
    meter.world.admin.execute("update user_credits set tier = %s where user_id = %s", (tier, user))


# The whole system


def test_everything_is_added_up(meter: Meter) -> None:
    rich, poor = meter.bank.customer(100), meter.bank.customer(20)
    put(meter, "professional", rich)
    meter.use(rich, 3, model="gpt-4o", provider="openai", tokens_used=10)
    meter.use(poor, 1, model="llama", provider="local", tokens_used=5, success=False)
    meter.fold(limit=1)
    meter.use(poor, "0.5", model="gpt-4o", provider="openai", tokens_used=1, created_at=JUNE)
    answer = ask(meter, "system")
    assert (answer["users"], answer["balance"], answer["allocated"], answer["spent"]) == (
        2, 120.0, 120.0, 4.5,
    )  # fmt: skip
    assert answer["by_tier"] == [
        {"tier": "free", "users": 1, "balance": 20.0, "allocated": 20.0},
        {"tier": "professional", "users": 1, "balance": 100.0, "allocated": 100.0},
    ]
    usage = answer["usage"]
    assert (usage["events"], usage["failures"], usage["tokens"], usage["cost"]) == (3, 1, 16, 4.5)
    assert [(row["month"], row["events"], row["cost"]) for row in usage["by_month"]] == [
        ("2025-06", 1, 0.5),
        (NOW.strftime("%Y-%m"), 2, 4.0),
    ]
    assert [(row["model"], row["provider"], row["cost"]) for row in usage["by_model"]] == [
        ("gpt-4o", "openai", 3.5),
        ("llama", "local", 1.0),
    ]


def test_usage_is_that_of_the_months_that_the_time_touches(meter: Meter) -> None:
    user = uuid4()
    for month in (5, 6, 7):
        meter.use(user, month, created_at=datetime(2025, month, 20, tzinfo=UTC))
    july = datetime(2025, 7, 1, tzinfo=UTC)
    for start, end, months in (
        (JUNE, july, ["2025-06"]),
        (JUNE, july + timedelta(microseconds=1), ["2025-06", "2025-07"]),
        (None, JUNE, ["2025-05", "2025-06"]),
        (july, None, ["2025-07"]),
    ):
        answer = ask(meter, "system", start_date=start, end_date=end)
        assert [row["month"] for row in answer["usage"]["by_month"]] == months
    answer = ask(meter, "system", start_date=JUNE, end_date=july)
    assert (answer["from"], answer["to"]) == ("2025-06-01", "2025-06-30")
    with refused("invalid_body", 400, "end_date: "):
        ask(meter, "system", start_date=july, end_date=JUNE)


def test_where_nothing_is_there_is_nothing(meter: Meter) -> None:
    answer = ask(meter, "system")
    assert (answer["users"], answer["balance"], answer["by_tier"]) == (0, 0.0, [])
    assert (answer["usage"]["events"], answer["usage"]["by_month"]) == (0, [])
    assert ask(meter, "top_spenders")["spenders"] == []
    answer = ask(meter, "distribution")
    assert (answer["users"], answer["histogram"], answer["by_tier"]) == (0, [], [])
    assert answer["quantiles"]["p50"] is None


# Who spends most


def test_top_spenders_are_those_of_a_month_less_what_they_got_back(meter: Meter) -> None:
    first, second, refunded = meter.bank.customer(50), uuid4(), meter.bank.customer(100)
    put(meter, "starter", first)
    meter.use(first, 5)
    meter.use(first, 6, model="gpt-4o")
    meter.use(second, 4)
    meter.use(second, 100, created_at=JUNE)
    done = meter.bank.call("deduct_credits", user_id=refunded, amount=20, model="gpt-4o")
    meter.bank.call(
        "refund_credits",
        user_id=None,
        account=str(refunded),
        transaction_id=UUID(done["transaction_id"]),
        amount=17,
        reason="it was slow",
    )
    answer = ask(meter, "top_spenders", limit=2)
    assert answer["month"] == NOW.strftime("%Y-%m")
    assert [(row["user_id"], row["spent"], row["events"]) for row in answer["spenders"]] == [
        (str(first), 11.0, 2),
        (str(second), 4.0, 1),
    ]
    assert (answer["spenders"][0]["tier"], answer["spenders"][0]["balance"]) == ("starter", 50.0)
    assert (answer["spenders"][1]["tier"], answer["spenders"][1]["balance"]) == ("free", 0.0)
    last = ask(meter, "top_spenders")["spenders"][-1]
    assert (last["user_id"], last["spent"]) == (str(refunded), 3.0)
    june = ask(meter, "top_spenders", month=date(2025, 6, 30))
    assert [(row["user_id"], row["spent"]) for row in june["spenders"]] == [(str(second), 100.0)]


def test_there_is_a_limit_to_the_limit(meter: Meter) -> None:
    for limit in (0, 101, None):
        with refused("invalid_body", 400, "limit: "):
            ask(meter, "top_spenders", limit=limit)


# Who has how much


def test_balances_lie_between_powers_of_ten(meter: Meter) -> None:
    spent = meter.bank.customer(5)
    meter.bank.give(spent, -5, "usage")
    for credits in ("0.000001", 1, "1.000001", 10, 100, "100.5", 1_000_000):
        meter.bank.customer(credits)
    answer = ask(meter, "distribution")
    found = {(bar["above"], bar["up_to"]): bar["users"] for bar in answer["histogram"]}
    assert found == {
        (-0.000001, 0.0): 1,
        (0.0, 1.0): 2,
        (1.0, 10.0): 2,
        (10.0, 100.0): 1,
        (100.0, 1000.0): 1,
        (100_000.0, None): 1,
    }
    assert answer["users"] == sum(found.values()) == 8
    assert answer["quantiles"]["p50"] == 1.000001
    assert answer["quantiles"]["p99"] == 1_000_000.0


def test_every_tier_has_its_own(meter: Meter) -> None:
    put(meter, "starter", meter.bank.customer(7))
    meter.bank.customer(3)
    meter.bank.customer(4)
    free, starter = ask(meter, "distribution")["by_tier"]
    assert (free["tier"], free["users"], free["balance"]) == ("free", 2, 7.0)
    assert (starter["tier"], starter["users"], starter["quantiles"]["p50"]) == ("starter", 1, 7.0)
    assert starter["histogram"] == [{"above": 1.0, "up_to": 10.0, "users": 1}]


# Who asks


@pytest.mark.parametrize("procedure", ANALYTICS)
def test_only_administrators_ask(meter: Meter, procedure: str) -> None:
    with refused("forbidden", 403):
        meter.bank.call(procedure, user_id=uuid4())
    admin = uuid4()
    meter.world.admin.execute(
        "insert into system_admins (id, email) values (%s, 'a@example.org')", (admin,)
    )
    assert meter.bank.call(procedure, user_id=admin)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        meter.bank.call(procedure, meter.world.worker, user_id=None)

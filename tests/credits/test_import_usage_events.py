"""Importing usage: at the times at which it happened, once, each line by itself, not charged."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.credits.meter import SOURCE, Meter, line
from tests.world import NOW, refused

JUNE = datetime(2025, 6, 15, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _frozen(meter: Meter) -> None:
    meter.world.freeze()


def codes(answer: dict[str, Any]) -> dict[int, str]:
    """Line number -> code of what was refused."""
    return {refusal["line"]: refusal["code"] for refusal in answer["refused"]}


# It does


def test_a_use_comes_in_at_the_time_it_happened_and_is_not_charged(meter: Meter) -> None:
    user = meter.bank.customer(10)
    told = {
        "model": "gpt-4o",
        "provider": "openai",
        "power_level": "eco",
        "service": "chat",
        "event_type": "completion",
        "success": False,
        "metadata": {"trace": 7},
    }
    answer = meter.bring(line(2, user, "0.0015", JUNE, **told))
    assert answer == {"imported": 1, "tokens": 1000, "cost": 0.0015, "known": 0, "refused": []}
    (event,) = meter.world.rows("select * from usage_events where user_id = %s", (user,))
    assert {name: event[name] for name in told} == told
    assert (event["created_at"], event["recorded_at"]) == (JUNE, NOW)
    assert (event["tokens_used"], event["cost"]) == (1000, D("0.0015"))
    assert (event["transaction_id"], event["source"]) == (None, SOURCE)
    assert meter.bank.balance(user) == D(10)
    (rollup,) = meter.world.rows("select * from usage_rollups where user_id = %s", (user,))
    assert (rollup["month"].isoformat(), rollup["events"], rollup["failures"]) == (
        "2025-06-01", 1, 1,
    )  # fmt: skip


def test_what_is_not_told_is_not_made_up(meter: Meter) -> None:
    user = uuid4()
    assert meter.bring(line(2, user, 1, JUNE, model="", metadata=None))["imported"] == 1
    (event,) = meter.world.rows("select * from usage_events where user_id = %s", (user,))
    assert (event["model"], event["provider"], event["metadata"]) == (None, None, None)
    assert (event["event_type"], event["success"]) == ("usage", True)


def test_a_month_begins_at_midnight_in_utc(meter: Meter) -> None:
    user, end = uuid4(), datetime(2025, 7, 1, tzinfo=UTC)
    meter.bring(
        line(2, user, 1, end - timedelta(microseconds=1)),
        {**line(3, user, 1, end), "event_time": "2025-07-01T02:00:00+02:00"},
    )
    rows = meter.world.rows("select month::text from usage_rollups order by 1")
    assert [row["month"] for row in rows] == ["2025-06-01", "2025-07-01"]


def test_what_lies_in_the_running_month_counts_towards_the_cap(meter: Meter) -> None:
    user = uuid4()
    meter.bring(line(2, user, 3, NOW - timedelta(hours=1)), line(3, user, 4, JUNE))
    assert meter.world.value("select internal.month_spent(%s)", (user,)) == 3


# It replays


def test_what_is_there_already_is_known(meter: Meter) -> None:
    lines = [line(n, uuid4(), n, JUNE, model=f"m{n % 3}") for n in range(2, 30)]
    assert meter.bring(*lines)["imported"] == 28
    assert meter.bring(*lines, line(40, uuid4(), 1, JUNE)) == {
        "imported": 1, "tokens": 1000, "cost": 1.0, "known": 28, "refused": [],
    }  # fmt: skip


def test_equal_uses_are_told_apart_by_their_occurrence_or_their_key(meter: Meter) -> None:
    user = uuid4()
    twice = [line(2, user, 5, JUNE), line(3, user, 5, JUNE, occurrence=2)]
    keyed = [line(4, user, 5, JUNE, key="a"), line(5, user, 5, JUNE, key="b")]
    assert meter.bring(*twice, *keyed)["imported"] == 4
    assert meter.bring(*twice, *keyed)["known"] == 4
    assert meter.bring(line(2, user, 5, JUNE), source="other")["imported"] == 1


def test_a_number_is_the_same_however_it_is_written(meter: Meter) -> None:
    user = uuid4()
    meter.bring({**line(2, user, "0.1", JUNE), "tokens_used": 1000})
    again = {**line(2, user, "0.1000000", JUNE), "tokens_used": "1000.0"}
    assert meter.bring(again)["known"] == 1


def test_the_same_use_twice_in_one_call_is_one(meter: Meter) -> None:
    user = uuid4()
    answer = meter.bring(line(2, user, 5, JUNE), line(3, user, 5, JUNE))
    assert (answer["imported"], answer["known"]) == (1, 1)


def test_more_metadata_makes_no_other_use(meter: Meter) -> None:
    user = uuid4()
    meter.bring(line(2, user, 5, JUNE, key="a"))
    assert meter.bring(line(2, user, 5, JUNE, key="a", metadata={"x": 1}))["known"] == 1


# It refuses


def test_a_key_that_came_with_another_use_is_refused(meter: Meter) -> None:
    user = uuid4()
    meter.bring(line(2, user, 5, JUNE, key="a"))
    answer = meter.bring(
        line(3, user, 6, JUNE, key="a"),
        line(4, user, 5, JUNE, key="a", model="m"),
        line(5, user, 1, JUNE, key="b"),
        line(6, user, 2, JUNE, key="b"),
        line(7, uuid4(), 6, JUNE, key="a"),
    )
    assert codes(answer) == {3: "nonce_reused", 4: "nonce_reused", 6: "nonce_reused"}
    assert (answer["imported"], answer["cost"]) == (2, 7.0)


@pytest.mark.parametrize(
    "fault",
    [
        {"user_id": None},
        {"event_time": None},
        {"event_time": "infinity"},
        {"tokens_used": None},
        {"tokens_used": -1},
        {"tokens_used": 1.5},
        {"tokens_used": 10**16},
        {"cost": None},
        {"cost": "-0.000001"},
        {"cost": "NaN"},
        {"cost": "1e12"},
        {"event_type": "No type"},
        {"model": "m" * 201},
        {"metadata": {"much": "x" * 17_000}},
    ],
    ids=lambda fault: str(fault)[:40],
)
def test_a_line_that_makes_no_sense_is_left_out_alone(meter: Meter, fault: dict[str, Any]) -> None:
    user = uuid4()
    bad = {**line(2, user, 5, JUNE), **fault}
    answer = meter.bring(bad, line(3, user, 7, JUNE))
    assert codes(answer) == {2: "invalid_body"}
    assert (answer["imported"], answer["cost"]) == (1, 7.0)


def test_what_lies_in_the_future_is_left_out(meter: Meter) -> None:
    user, late = uuid4(), timedelta(minutes=10)
    answer = meter.bring(
        line(2, user, 5, NOW + late), line(3, user, 5, NOW + late + timedelta(microseconds=1))
    )
    assert codes(answer) == {3: "event_in_future"}


def test_a_call_that_makes_no_sense_is_refused(meter: Meter) -> None:
    user = uuid4()
    with refused("invalid_body", 400, "source: "):
        meter.bring(line(2, user, 5, JUNE), source="")
    with refused("invalid_body", 400, "events: "):
        meter.bring(*(line(n, user, 5, JUNE) for n in range(1001)))
    with refused("invalid_body", 400, "events: "):
        meter.world.value("select import_usage_events('s', '{}')", through=meter.world.operator)
    assert meter.bring() == {"imported": 0, "tokens": 0, "cost": 0.0, "known": 0, "refused": []}


def test_only_an_operator_imports(meter: Meter) -> None:
    for session in (meter.world.functions, meter.world.worker):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            meter.bring(line(2, uuid4(), 5, JUNE), through=session)


# It races


def test_one_file_imported_by_many_at_once_comes_in_once(meter: Meter) -> None:
    users = [uuid4() for _ in range(20)]
    lines = [line(n, users[n % 20], n, JUNE) for n in range(100)]

    def shuffled(seed: int) -> list[dict[str, Any]]:
        return random.Random(seed).sample(lines, 100)

    answers = meter.world.at_once(
        [lambda session, n=n: meter.bring(*shuffled(n), through=session) for n in range(6)],  # type: ignore[misc]
        user="tallybook_operator",
    )
    assert sorted(a["imported"] for a in answers if isinstance(a, dict)) == [0] * 5 + [100]
    assert meter.world.count("usage_events") == 100


def test_an_import_waits_for_who_spends(meter: Meter) -> None:
    user = meter.bank.customer(10)
    holder = meter.world.session(autocommit=False)
    holder.execute("select internal.lock_credits(array[%s::uuid])", (user,))
    with meter.world.in_background(
        lambda session: meter.bring(line(2, user, 5, JUNE), through=session),
        meter.world.session("tallybook_operator"),
    ) as answer:
        holder.rollback()
        assert answer.result()["imported"] == 1

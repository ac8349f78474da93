"""Everybody's sums: folded by upkeep, exact before and after, by however many at once."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal as D
from uuid import uuid4

import psycopg
import pytest

from tests.credits.meter import Meter
from tests.world import NOW

JUNE = datetime(2025, 6, 15, tzinfo=UTC)
SUMS = (
    "select month::text, model, events, failures, tokens, cost, refunded"
    " from internal.{} order by 1, 2"
)


@pytest.fixture(autouse=True)
def _frozen(meter: Meter) -> None:
    meter.world.freeze()


def used(meter: Meter, table: str = "usage_by_month") -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in meter.world.rows(SUMS.format(table))]


def test_what_was_used_is_the_same_before_and_after(meter: Meter) -> None:
    meter.use(uuid4(), "1.5", model="a", tokens_used=10)
    meter.use(uuid4(), "0.5", model="a", tokens_used=5, success=False)
    meter.use(uuid4(), 2, created_at=JUNE)
    before = used(meter)
    assert before == [
        ("2025-06-01", "", 1, 0, 0, D(2), D(0)),
        (NOW.strftime("%Y-%m-01"), "a", 2, 1, 15, D(2), D(0)),
    ]
    assert used(meter, "usage_totals") == []
    assert meter.fold() == 3
    assert used(meter) == used(meter, "usage_totals") == before
    assert meter.world.count("internal.usage_deltas") == 0


def test_a_second_run_finds_nothing_and_the_next_use_is_added(meter: Meter) -> None:
    user = uuid4()
    meter.use(user, 1, model="a")
    assert (meter.fold(), meter.fold()) == (1, 0)
    meter.use(user, 2, model="a")
    assert used(meter)[0][-2] == D(3)
    assert meter.fold() == 1
    assert used(meter, "usage_totals")[0][-2] == D(3)


def test_it_takes_the_oldest_and_no_more_than_it_is_told(meter: Meter) -> None:
    for model in "abc":
        meter.use(uuid4(), 1, model=model)
    assert meter.fold(limit=2) == 2
    assert [row[1] for row in used(meter, "usage_totals")] == ["a", "b"]
    assert [row[1] for row in used(meter)] == ["a", "b", "c"]


def test_what_another_folds_is_left_to_them(meter: Meter) -> None:
    meter.use(uuid4(), 1, model="a")
    meter.use(uuid4(), 1, model="b")
    other = meter.world.session("tallybook_worker", autocommit=False)
    assert meter.fold(limit=1, through=other) == 1
    assert meter.fold() == 1
    assert len(used(meter)) == 2
    other.commit()
    assert len(used(meter, "usage_totals")) == 2


def test_many_fold_while_others_use(meter: Meter) -> None:
    for number in range(40):
        meter.use(uuid4(), 1, model=f"m{number % 3}")

    def fold(session: object) -> int:
        return sum(meter.fold(3, session) for _ in range(5))  # type: ignore[arg-type]

    folded = meter.world.at_once([fold] * 4, user="tallybook_worker")
    assert sum(n for n in folded if isinstance(n, int)) == 40
    assert sum(row[2] for row in used(meter, "usage_totals")) == 40  # type: ignore[misc]


def test_only_the_worker_and_operators_fold(meter: Meter) -> None:
    assert meter.fold(through=meter.world.operator) == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        meter.fold(through=meter.world.functions)

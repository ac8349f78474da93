"""Neither an import nor statistics walk through what grows, nor through all of a user's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from tests.credits.meter import Meter, line

GROWING = ["usage_events", "usage_rollups", "usage_deltas", "user_credits", "credit_transactions"]
EVENTS = 3000
APRIL = datetime(2025, 4, 10, tzinfo=UTC)


def walked(meter: Meter) -> dict[str, tuple[int, int]]:
    """Table -> sequential scans, and rows read through indexes."""
    world = meter.world
    for session in (world.functions, world.worker, world.operator, world.admin):
        session.execute("select pg_stat_force_next_flush()")
    world.admin.execute("select pg_stat_clear_snapshot()")
    rows = world.rows(
        "select relname, seq_scan, idx_tup_fetch from pg_stat_user_tables where relname = any (%s)",
        (GROWING,),
    )
    return {row["relname"]: (row["seq_scan"], row["idx_tup_fetch"]) for row in rows}


def a_day(meter: Meter, user: UUID, day: int) -> None:
    at = APRIL + timedelta(days=day)
    lines = [line(n, user, 1, at + timedelta(seconds=n), model=f"m{day}") for n in range(10)]
    meter.bring(*lines)
    meter.bring(*lines)
    meter.use(user, 1, created_at=at)
    meter.statistics(user, "model", start_date=at, end_date=at + timedelta(minutes=1))
    meter.statistics(user, "month", start_date=datetime(2025, 5, 1, tzinfo=UTC))
    meter.world.value("select internal.month_spent(%s)", (user,))
    meter.fold(limit=100)


@pytest.mark.parametrize("whose", ["one user's", "everybody's"])
def test_nothing_walks_through_what_grows(meter: Meter, whose: str) -> None:
    user = uuid4()
    for day in range(8):
        a_day(meter, user, day)
    for first in range(0, EVENTS, 1000):
        meter.bring(
            *(
                line(
                    n,
                    user if whose == "one user's" else uuid4(),
                    n % 7,
                    datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=n),
                    model=f"m{n}",
                )
                for n in range(first, first + 1000)
            )
        )
    while meter.fold():
        pass
    meter.world.admin.execute("analyze")
    before = walked(meter)
    a_day(meter, user, 20)
    after = walked(meter)
    assert {table: after[table][0] - before[table][0] for table in GROWING} == dict.fromkeys(
        GROWING, 0
    )
    read = {table: after[table][1] - before[table][1] for table in GROWING}
    assert {table: rows for table, rows in read.items() if rows > EVENTS / 10} == {}

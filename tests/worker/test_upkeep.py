"""The worker keeps house: all that is due, a bounded amount at a time, whatever fails."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tallybook import logs
from tallybook.refusal import Refusal, unavailable
from tallybook.worker import UPKEEP, UPKEEP_CALLS_MAX, Worker
from tests.conftest import Database

PROCEDURES = [upkeep.procedure for upkeep in UPKEEP]


class House:
    """A database in which every procedure has so much left to do, or fails."""

    def __init__(self, **left: int | Exception) -> None:
        self.left = dict.fromkeys(PROCEDURES, 0) | left
        self.calls: list[str] = []

    async def call(self, procedure: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(procedure)
        left = self.left[procedure]
        if isinstance(left, Exception):
            raise left
        done = min(left, arguments["limit"])
        self.left[procedure] = left - done
        counting = next(each.counting for each in UPKEEP if each.procedure == procedure)
        # The last of its counts is what there was, the others none: each of them counts.
        return dict.fromkeys(counting, 0) | {counting[-1]: done}


async def keep(house: House, *, stopping: bool = False) -> list[Exception]:
    """One round of upkeep; what failed."""
    worker = Worker("postgresql://nobody@nowhere/nothing")
    worker._database = house  # type: ignore[assignment]
    if stopping:
        worker.stop()
    failures = await worker._keep_house()
    # What it said is written while it is the test's to see.
    logs.flush()
    return failures


async def test_each_is_called_until_nothing_is_left() -> None:
    house = House(mark_expired_coupons=2_500, cleanup_expired_nonces=10_000)
    assert await keep(house) == []
    assert house.calls.count("mark_expired_coupons") == 3
    assert house.calls.count("cleanup_expired_nonces") == 2
    assert [procedure for procedure in PROCEDURES if house.calls.count(procedure) == 1] == [
        procedure
        for procedure in PROCEDURES
        if procedure not in ("mark_expired_coupons", "cleanup_expired_nonces")
    ]
    assert set(house.left.values()) == {0}


async def test_one_that_never_ends_leaves_time_to_the_others() -> None:
    house = House(expire_holds=10**9)
    await keep(house)
    assert house.calls.count("expire_holds") == UPKEEP_CALLS_MAX
    assert set(PROCEDURES) == set(house.calls)


@pytest.mark.parametrize("failure", [RuntimeError("the inside"), unavailable()], ids=str)
async def test_one_that_fails_keeps_no_other_from_running(
    failure: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    house = House(expire_holds=failure, expire_points=failure)
    assert await keep(house) == [failure, failure]
    assert set(PROCEDURES) == set(house.calls)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    said = [(line["event"], line["operation"]) for line in lines]
    event = "worker.database_lost" if isinstance(failure, Refusal) else "points.error"
    assert said == [(event, "expire_holds"), (event, "expire_points")]


async def test_told_to_stop_it_begins_nothing_new() -> None:
    house = House(expire_holds=5_000)
    await keep(house, stopping=True)
    assert house.calls == []


def test_the_database_keeps_house_as_the_worker_does(database: Database) -> None:
    (scheduled,) = (
        database.connect()
        .execute(
            "select regexp_match(prosrc, 'array\\[(.*?)\\]') from pg_proc"
            " where oid = 'public.schedule_upkeep'::regproc"
        )
        .fetchone()
    )  # type: ignore[misc]
    assert sorted(re.findall(r"'(\w+)'", scheduled[0])) == sorted(PROCEDURES)


@pytest.mark.parametrize("upkeep", UPKEEP, ids=lambda upkeep: upkeep.procedure)
async def test_the_procedures_are_there_for_the_worker(database: Database, upkeep: Any) -> None:
    worker = Worker(database.dsn("tallybook_worker"))
    try:
        answer = await worker._database.call(upkeep.procedure, {"limit": upkeep.limit})
    finally:
        await worker.close()
    assert [answer[name] for name in upkeep.counting] == [0] * len(upkeep.counting)

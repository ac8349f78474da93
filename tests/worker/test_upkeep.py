"""The worker keeps house: all that is due, a bounded amount at a time, whatever fails."""

from __future__ import annotations

import json
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


def working_in(house: House) -> Worker:
    worker = Worker("postgresql://nobody@nowhere/nothing")
    worker._database = house  # type: ignore[assignment]
    return worker


async def test_each_is_called_until_nothing_is_left() -> None:
    house = House(mark_expired_coupons=2_500, cleanup_expired_nonces=10_000)
    assert await working_in(house)._keep_house() == []
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
    await working_in(house)._keep_house()
    assert house.calls.count("expire_holds") == UPKEEP_CALLS_MAX
    assert set(PROCEDURES) == set(house.calls)


@pytest.mark.parametrize("failure", [RuntimeError("the inside"), unavailable()], ids=str)
async def test_one_that_fails_keeps_no_other_from_running(
    failure: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    house = House(expire_holds=failure, expire_points=failure)
    failures = await working_in(house)._keep_house()
    assert failures == [failure, failure]
    assert set(PROCEDURES) == set(house.calls)
    logs.flush()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    said = [(line["event"], line["operation"]) for line in lines]
    event = "worker.database_lost" if isinstance(failure, Refusal) else "points.error"
    assert said == [(event, "expire_holds"), (event, "expire_points")]


async def test_told_to_stop_it_begins_nothing_new() -> None:
    house = House(expire_holds=5_000)
    worker = working_in(house)
    worker.stop()
    await worker._keep_house()
    assert house.calls == []


@pytest.mark.parametrize("upkeep", UPKEEP, ids=lambda upkeep: upkeep.procedure)
async def test_the_procedures_are_there_for_the_worker(database: Database, upkeep: Any) -> None:
    worker = Worker(database.dsn("tallybook_worker"))
    try:
        answer = await worker._database.call(upkeep.procedure, {"limit": upkeep.limit})
    finally:
        await worker.close()
    assert answer == dict.fromkeys(upkeep.counting, 0)

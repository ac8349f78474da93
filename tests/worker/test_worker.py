"""The worker decides what is submitted, sleeps when there is nothing, and survives what happens."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tallybook import logs
from tallybook.worker import Worker
from tests.conftest import Database
from tests.world import World

SECONDS_MAX = 20
FOR_EVER = (3600.0,)

Start = Callable[..., subprocess.Popen[bytes]]


@asynccontextmanager
async def working(database: Database, **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs during the block, and ends in an orderly way after it."""
    worker = Worker(database.dsn("tallybook_worker"), **options)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, SECONDS_MAX)
        # What it said is written while it is the test's to see.
        logs.flush()


async def until(holds: Callable[[], object]) -> None:
    """Return when a condition holds; fail when it never does."""
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def asleep(world: World) -> int:
    return world.count("internal.workers", "asleep")


@contextmanager
def account_locked(world: World, user: UUID):
    """Nobody can move this user's points during the block."""
    session = world.session(autocommit=False)
    session.execute("select from ledger.accounts where book_id = %s for update", (user,))
    yield
    session.rollback()


def blocked_worker(world: World) -> int | None:
    """The server process of a worker that waits for somebody's lock."""
    rows = world.rows(
        "select pid from pg_stat_activity where datname = current_database()"
        " and usename = 'tallybook_worker' and wait_event_type = 'Lock'"
    )
    return rows[0]["pid"] if rows else None


def blocked_set(world: World, others: int = 3) -> tuple[UUID, list[str]]:
    """Pending events, the first of them of a user who has an account; that user and the events."""
    first = world.user(points=1)
    users = [first, *(world.user() for _ in range(others))]
    return first, [world.submit(user)["id"] for user in users]


async def test_what_is_submitted_is_decided(database: Database, world: World) -> None:
    users = [world.user() for _ in range(3)]
    for user in users:
        world.submit(user)
    async with working(database) as worker:
        await until(lambda: worker.decided["validated"] == 3)
    assert [world.points(user) for user in users] == [10, 10, 10]


async def test_a_notification_wakes_it(database: Database, world: World) -> None:
    user = world.user()
    async with working(database, sleeps_seconds=FOR_EVER) as worker:
        for number in (1, 2):
            await until(lambda: asleep(world))
            world.submit(user)
            await until(lambda wanted=number: worker.decided["validated"] == wanted)
    assert world.points(user) == 20


async def test_a_submission_that_rang_for_nobody_is_found(database: Database, world: World) -> None:
    """It looked before the worker said that it was asleep, and commits after its last look."""
    session, user = world.session("tallybook_functions", autocommit=False), world.user()
    world.submit(user, through=session)
    async with working(database, sleeps_seconds=(0.02,)) as worker:
        await until(lambda: asleep(world))
        session.commit()
        await until(lambda: worker.decided["validated"])


async def test_it_looks_once_more_when_it_has_said_that_it_sleeps(
    database: Database, world: World
) -> None:
    """What is submitted between its look and its word rings for nobody."""
    async with working(database, sleeps_seconds=FOR_EVER) as worker:
        mark = worker._doorbell.mark

        async def late(*, asleep: bool) -> None:
            if asleep and not world.count("points_events"):
                world.submit(world.user())
            await mark(asleep=asleep)

        worker._doorbell.mark = late  # type: ignore[method-assign]
        await until(lambda: worker.decided["validated"])


@pytest.mark.parametrize(("sleeping", "rings"), [(True, 1), (False, 0)])
def test_a_submission_rings_only_for_who_sleeps(world: World, sleeping: bool, rings: int) -> None:
    world.worker.execute("insert into internal.workers values ('1', %s)", (sleeping,))
    world.worker.execute("listen points_events")
    world.submit(world.user())
    assert len(list(world.worker.notifies(timeout=0.2, stop_after=1))) == rings


async def test_it_is_awake_while_there_is_work(database: Database, world: World) -> None:
    first, _ = blocked_set(world)
    async with working(database, set_size=1, sleeps_seconds=FOR_EVER):
        with account_locked(world, first):
            await until(lambda: blocked_worker(world))
            assert asleep(world) == 0
        await until(lambda: asleep(world))
    assert world.count("internal.workers") == 0


async def test_two_workers_share_the_queue(database: Database, world: World) -> None:
    first, events = blocked_set(world, others=9)
    async with working(database, set_size=1) as slow:
        with account_locked(world, first):
            await until(lambda: blocked_worker(world))
            async with working(database, set_size=4) as quick:
                await until(lambda: quick.decided["validated"] == 9)
            assert [world.status(event) for event in events[:2]] == ["pending", "validated"]
        await until(lambda: slow.decided["validated"] == 1)
    assert world.count("ledger.transfers", "kind = 'habit_completion'") == 10


async def test_it_outlives_the_loss_of_its_connections(
    database: Database, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    user = world.user()
    async with working(database, sleeps_seconds=FOR_EVER) as worker:
        await until(lambda: asleep(world))
        before = world.value("select worker from internal.workers")
        world.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and usename = 'tallybook_worker'"
        )
        # Its old row is swept away; under the new one it hears the bell again.
        await until(lambda: world.count("internal.workers", "asleep and worker <> %s", before))
        world.submit(user)
        await until(lambda: worker.decided["validated"])
    said = [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    assert said.index("worker.database_lost") < said.index("worker.recovered")


async def test_a_defect_is_logged_and_waited_out(
    database: Database, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    world.submit(world.user())
    world.admin.execute(
        "alter function internal.points_event_features(points_events[]) rename to broken"
    )
    async with working(database) as worker:
        await until(lambda: "points.error" in capfd.readouterr().err)
        world.admin.execute(
            "alter function internal.broken(points_events[]) rename to points_event_features"
        )
        await until(lambda: worker.decided["validated"])


async def test_it_keeps_house(database: Database, world: World) -> None:
    user = world.user(points=100)
    world.admin.execute(
        "select ledger.hold(%s, %s, 'points', 60, 'test', %s, now() - interval '1 second')",
        (user, uuid4(), uuid4()),
    )
    world.submit(user)
    world.admin.execute("update used_nonces set expires_at = now()")
    assert world.points(user) == 40
    async with working(database, sleeps_seconds=FOR_EVER):
        await until(lambda: asleep(world))
    assert (world.points(user), world.count("used_nonces")) == (110, 0)


async def test_upkeep_that_fails_holds_nothing_up(database: Database, world: World) -> None:
    world.admin.execute("alter function public.expire_holds(int) rename to broken")
    user = world.user()
    world.submit(user)
    async with working(database) as worker:
        await until(lambda: worker.decided["validated"])
    assert world.points(user) == 10


def test_once_decides_what_is_pending_and_ends(world: World, start_worker: Start) -> None:
    users = [world.user() for _ in range(3)]
    for user in users:
        world.submit(user)
    at = world.now() - timedelta(hours=1)
    for _ in range(2):
        world.submit(users[0], at=at)
    process = start_worker("--once", "--json", "--set-size", "2")
    output, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0
    decided = {"validated": 4, "pending_review": 0, "rejected": 1, "flagged": 0}
    assert json.loads(output) == decided


@pytest.mark.parametrize("place", ["away", "empty"])
def test_once_says_when_there_is_no_database(
    database: Database, start_worker: Start, place: str
) -> None:
    urls = {
        "away": "postgresql://nobody@127.0.0.1:1/none",
        "empty": database.server.dsn("template1"),
    }
    process = start_worker("--once", "--database-url", urls[place])
    process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_it_finish_its_set(
    world: World, start_worker: Start, number: signal.Signals
) -> None:
    first, events = blocked_set(world)
    with account_locked(world, first):
        process = start_worker()
        await until(lambda: blocked_worker(world))
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    assert process.wait(SECONDS_MAX) == 0
    assert {world.status(event) for event in events} == {"validated"}
    assert world.count("internal.workers") == 0


async def test_a_signal_wakes_a_sleeper(world: World, start_worker: Start) -> None:
    process = start_worker()
    await until(lambda: asleep(world))
    process.terminate()
    assert process.wait(SECONDS_MAX) == 0


async def test_killed_inside_a_set_each_event_is_decided_once(
    database: Database, world: World, start_worker: Start
) -> None:
    first, events = blocked_set(world)
    with account_locked(world, first):
        process = start_worker()
        await until(lambda: blocked_worker(world))
        process.kill()
        process.wait()
    async with working(database):
        await until(lambda: world.count("points_events", "validation_status = 'pending'") == 0)
    assert {world.status(event) for event in events} == {"validated"}
    assert world.count("ledger.transfers", "kind = 'habit_completion'") == len(events)


async def test_terminated_inside_a_set_it_decides_it_anew(database: Database, world: World) -> None:
    first, events = blocked_set(world)
    async with working(database) as worker:
        with account_locked(world, first):
            await until(lambda: blocked_worker(world))
            world.admin.execute("select pg_terminate_backend(%s)", (blocked_worker(world),))
        await until(lambda: worker.decided["validated"] == len(events))
    assert world.count("ledger.transfers", "kind = 'habit_completion'") == len(events)


async def test_the_row_of_a_killed_sleeper_is_removed(
    database: Database, world: World, start_worker: Start
) -> None:
    process = start_worker()
    await until(lambda: asleep(world))
    dead = world.value("select worker from internal.workers")
    process.kill()
    process.wait()
    await until(lambda: world.count("pg_stat_activity", "pid::text = %s", dead) == 0)
    async with working(database, sleeps_seconds=FOR_EVER):
        await until(lambda: world.count("internal.workers", "worker = %s", dead) == 0)


def test_it_may_not_touch_the_tables(world: World) -> None:
    for table in ("points_events", "user_points_cache", "ledger.transfers"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.worker.execute(f"select from {table}")

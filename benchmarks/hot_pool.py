"""The hot pool: 32 clients award from one tenant's pool, beside the plain update of one row.

Ours is the whole of an award: the recognition and its recipient, the wallet and its statement, the
ledger and every cache, asked for by 32 tasks of one process through the gatherer, as a function
asks. Theirs is one transaction for each award that only takes from the row, over 32 connections.
Both answer when it is durable. How far apart they are is a matter of the disk: theirs flushes
once for each award with the row locked, ours once for all that wait. So both are measured again
with a commit_delay, in which the server waits before it flushes, as it waits for a slower disk: at
least a tenth of a millisecond, which waking makes about two, and at least a millisecond.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from decimal import Decimal
from itertools import count
from typing import Final

import psycopg
import uvloop

from benchmarks import world
from benchmarks.bench import Bench
from benchmarks.pgbench import pgbench
from benchmarks.procedures import LOGIN
from benchmarks.rounds import Run, Sample
from benchmarks.stand import Database
from tallybook.database import PsycopgDatabase

CLIENTS: Final = 32
MEMBERS: Final = 200
POOL: Final = 1_000_000_000
TENANT: Final = "7e0e1a70-0000-4000-8000-000000000002"
GOAL: Final = 3.0
SLOWER_US: Final = (100, 1_000)
BY_HAND: Final = f"""
update yardstick.pools set balance = balance - 1 where id = '{TENANT}' and balance >= 1;
"""


def hot_pool(bench: Bench) -> None:
    """Awards a second on one pool, and how long one waits for it."""
    with bench.stand.database() as database:
        people = _company(database)
        database.settle()
        _compare(bench, database, people, "")
        for delay_us in SLOWER_US:
            for setting in (f"commit_delay = {delay_us}", "commit_siblings = 0"):
                database.rows(f"alter role {LOGIN} in database {database.name} set {setting}")
            _compare(bench, database, people, f", commit_delay {delay_us / 1000:g} ms")
        bench.check_books("hot-pool", database)


def _compare(bench: Bench, database: Database, people: Sequence[str], where: str) -> None:
    found = bench.compare(
        f"hot pool{where}",
        {
            "update": _update(bench, database),
            "award": awarded(bench, database, people, "award_to_user"),
            "recognition": awarded(bench, database, people, "give_recognition"),
        },
    )
    for what in ("award", "recognition"):
        ratio = found.ratio(what, "update")
        p99 = found.median(what, lambda sample: sample.p99_ms)
        rate = found.median(what)
        note = f"{rate:,.0f}/s, p99 {p99:.1f} ms" if rate and p99 else ""
        name = f"{what} on one pool, {CLIENTS} clients{where}"
        bench.row("hot-pool", name, "plain update", ratio, goal=GOAL, note=note)


def _company(database: Database) -> Sequence[str]:
    """A tenant with a full pool, its members, who all may award; the yardstick's row beside it."""
    user_id = world.USER_ID.format("n")
    with psycopg.connect(database.dsn()) as connection:
        connection.execute(
            "insert into public.tenants (id, name, points_allocation_balance)"
            f" values ('{TENANT}', 'Measured', {POOL})"
        )
        connection.execute(
            "insert into public.tenant_members (tenant_id, user_id, role)"
            f" select '{TENANT}', {user_id}, 'manager' from generate_series(1, {MEMBERS}) as n"
        )
        connection.execute(
            "create table yardstick.pools (id uuid primary key, balance numeric(15, 2) not null"
            " check (balance >= 0)) with (fillfactor = 80)"
        )
        connection.execute(f"insert into yardstick.pools values ('{TENANT}', {POOL})")
        connection.execute(f"grant select, update on yardstick.pools to {LOGIN}")
        return world.user_ids(connection, MEMBERS)


def _update(bench: Bench, database: Database) -> Run:
    left = "select balance::bigint from yardstick.pools"

    def run(seconds: float) -> Sample:
        before = database.number(left)
        sample = pgbench(database.dsn(LOGIN), BY_HAND, clients=CLIENTS, seconds=seconds)
        taken = before - database.number(left)
        bench.check(f"hot-pool: {taken} taken by {sample.count}", taken == sample.count)
        return sample

    return run


def awarded(bench: Bench, database: Database, people: Sequence[str], procedure: str) -> Run:
    """So many tasks of one process, each of which awards again when it is answered."""
    numbers = count()
    total = "select count(*) from public.recognitions"

    async def client(calls: PsycopgDatabase, place: int, until: float, took: list[float]) -> None:
        while (began := time.perf_counter()) < until:
            await calls.call(procedure, _request(procedure, people, place, next(numbers)))
            took.append(time.perf_counter() - began)

    async def load(seconds: float) -> tuple[list[float], float]:
        calls = PsycopgDatabase(database.dsn(LOGIN))
        try:
            # Opens the lane and plans what it does; that is not counted.
            await calls.call(procedure, _request(procedure, people, 0, next(numbers)))
            took: list[float] = []
            began = time.perf_counter()
            until = began + seconds
            await asyncio.gather(*(client(calls, n, until, took) for n in range(CLIENTS)))
            return took, time.perf_counter() - began
        finally:
            await calls.close()

    def run(seconds: float) -> Sample:
        before = database.number(total)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            took, spent = runner.run(load(seconds))
        written = database.number(total) - before - 1
        bench.check(f"hot-pool: {written} rows for {len(took)}", written == len(took))
        cuts = [cut * 1000 for cut in statistics.quantiles(took, n=100)]
        return Sample(len(took) / spent, len(took), spent, cuts[49], cuts[94], cuts[98])

    return run


def _request(procedure: str, people: Sequence[str], place: int, number: int) -> dict[str, object]:
    common = {
        "user_id": people[place],
        "idempotency_key": f"award {procedure} {time.monotonic_ns()} {number}",
        "request_id": "bench",
    }
    recipient = people[CLIENTS + number % (len(people) - CLIENTS)]
    if procedure == "award_to_user":
        said = {"to_user_id": recipient, "amount": Decimal(1), "recognition_message": "Well done"}
    else:
        said = {"recipients": [recipient], "points": Decimal(1), "message": "Well done"}
    return {**common, **said}

"""Row 1: every process of the database dies at once, again and again, under load.

Clients ask a real server through a proxy that loses answers, a real worker validates, and each
round a SIGKILL takes the whole Postgres, somewhere in the middle; in every third round another one
takes the server. It starts again, everybody goes on, and what the clients were told is compared
with what the books hold. SIGKILL does not test fsync: the system's page cache survives it.

    TALLYBOOK_RELIABILITY_KILLS=100 TALLYBOOK_RELIABILITY_OPERATIONS=1000000 \
        pytest -s tests/reliability/test_kills.py
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tallybook.local.postgres import DURABLE
from tallybook.local.signing import LocalKeys
from tallybook.worker import Worker
from tests.conftest import Database
from tests.reliability.checker import Checker
from tests.reliability.conftest import size, templates
from tests.reliability.firms import Firm, employ
from tests.reliability.load import Load, summary
from tests.reliability.machine import (
    Serving,
    durable,
    errors,
    kill,
    mortal,
    tending,
    working,
)
from tests.reliability.model import Life
from tests.reliability.operations import KINDS
from tests.reliability.proxy import DroppingProxy
from tests.world import World

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="finds the server's processes in /proc"
)

KILLS = size("KILLS", 10)
OPERATIONS = size("OPERATIONS", 24_000)
DROPPED = 0.02
REVISITED = 3
SERVER_DIES_EVERY = 3
PROCESSES_MIN = 5  # the postmaster, its own helpers, and those who serve
SECONDS_DRAIN_MAX = 30

# Commits are acknowledged at once and written after ten seconds: the kill comes before.
FORGETFUL = {
    "synchronous_commit": "off",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
}
FORGETFUL_OPERATIONS = 1000
ROUND_SECONDS_MAX = 120 + OPERATIONS / KILLS / 50


@dataclass
class Ordeal:
    """Rounds of load with a kill in each."""

    database: Database
    server: Serving
    load: Load
    checker: Checker
    random: Random
    seconds_down: list[float] = field(default_factory=list)
    unknown: list[Life] = field(default_factory=list)
    settled: list[Life] = field(default_factory=list)
    open_firms: list[Firm] = field(default_factory=list)
    settled_firms: list[Firm] = field(default_factory=list)

    async def round(self, number: int, operations: int) -> None:
        """New users live, the database dies under them, and everything comes right."""
        lives = self.load.lives(f"round {number}", operations)
        firms = employ(self.database.dsn("tallybook_operator"), lives, self.load.credentials)
        old = self.random.sample(self.settled, min(REVISITED, len(self.settled)))
        begun = self.load.counts["operations"]
        middle = begun + int(operations * self.random.uniform(0.2, 0.7))
        async with asyncio.timeout(ROUND_SECONDS_MAX), asyncio.TaskGroup() as group:
            living = group.create_task(self.load.run(lives, old))
            await self.load.reached(middle)
            # Every other time it stays away until somebody was refused, which a quick restart
            # spares everybody: the server itself tries again for a second.
            await self.kill(away=number % 2 == 0)
            # Under load as well: the view reads one snapshot.
            await asyncio.to_thread(self.checker.discrepancies, f"after kill {number}")
            if number % SERVER_DIES_EVERY == 0:
                await self.load.reached(begun + int(operations * 0.8))
                await self.kill_server()
            await living
        await self.drained()
        self.checker.discrepancies(f"after round {number}")
        self.checker.check([*lives, *old])
        self.checker.check_firms(firms)
        closed = [firm for firm in firms if firm.known]
        self.checker.settle_firms(closed)
        self.open_firms += [firm for firm in firms if not firm.known]
        known = [life for life in lives if life.known]
        self.checker.settle(known)
        self.unknown += [life for life in lives if not life.known]
        # A few are kept, to look back in later rounds; a long run has no room for all.
        self.settled += self.random.sample(known, min(REVISITED, len(known)))
        self.settled_firms += closed[:1]

    async def kill(self, *, away: bool) -> None:
        """Kill the database and start it again, at once or when it was missed."""
        self.load.up.clear()
        began = time.monotonic()
        assert await asyncio.to_thread(kill, self.database.server) >= PROCESSES_MIN
        if away:
            await self.load.refused()
        await asyncio.to_thread(self.database.server.start)
        self.seconds_down.append(time.monotonic() - began)
        self.load.up.set()

    async def kill_server(self) -> None:
        """Kill the server that asks the database, and start it again."""
        self.load.served.clear()
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.revive)
        self.load.counts["servers killed"] += 1
        self.load.served.set()

    async def drained(self) -> None:
        """Return when the worker has decided everything."""
        deadline = time.monotonic() + SECONDS_DRAIN_MAX
        while pending := await asyncio.to_thread(self.checker.pending):
            assert time.monotonic() < deadline, f"{pending} events are left pending"
            await asyncio.sleep(0.02)


async def ordeal(
    seed: str, folder: Path, kills: int, operations: int, settings: Mapping[str, str] = DURABLE
) -> Ordeal:
    """So many kills, spread over so many operations."""
    keys = LocalKeys.new()
    logs = [folder / "serve.log", folder / "worker.log"]
    with durable(settings) as database:
        world = World(database)
        offered = templates(world)
        # What is there to begin with survives, also where what comes is forgotten.
        world.admin.execute("checkpoint")
        database.close()
        checker = Checker(database.dsn("tallybook_operator"), keys.coupon_secret)
        with (
            mortal(database, keys, logs[0]) as server,
            working(database, logs[1]),
            tending(database),
        ):
            async with DroppingProxy(server.port, seed, DROPPED).listening() as proxy:
                load = Load(seed, proxy.port, keys, offered)
                it = Ordeal(database, server, load, checker, Random(seed))
                for number in range(1, kills + 1):
                    await it.round(number, operations // kills)
        # Nothing is under way any more, also of what nobody waited for.
        worker = Worker(database.dsn("tallybook_worker"))
        await worker.drain()
        await worker.close()
        checker.discrepancies("in the end")
        checker.check([*it.unknown, *it.settled])
        checker.settle(it.unknown)
        checker.check_firms([*it.open_firms, *it.settled_firms])
        checker.settle_firms(it.open_firms)
        checker.nothing_else()
    checker.faults += [
        f"{event} was decided {n} times" for event, n in load.decided.items() if n > 1
    ]
    checker.faults += [f"logged: {line}" for log in logs for line in errors(log)]
    load.counts["dropped by the proxy"] = proxy.dropped
    return it


async def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(
    seed: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    it = await ordeal(seed, tmp_path, KILLS, OPERATIONS)
    counts = it.load.counts
    print(f"{KILLS} kills in {time.monotonic() - began:.0f} s:", summary(counts))
    print("seconds without a database:", [round(seconds, 2) for seconds in it.seconds_down])
    assert not it.checker.faults, it.checker.report()
    # Otherwise nothing was put to the test.
    assert counts["replayed after a doubt"] > 0
    assert counts["in doubt"] > 0
    assert counts["503"] > 0
    assert counts["unknown"] > 0
    assert counts["servers killed"] == KILLS // SERVER_DIES_EVERY
    for kind in KINDS:
        assert counts[f"{kind.name} ok"] > 0
    # Some holds ended by themselves, before their clients could end them.
    assert counts["settle fail"] + counts["release credits fail"] > 0


async def test_a_database_that_forgets_is_found_out(seed: str, tmp_path: Path) -> None:
    """The same test on a server that acknowledges before it writes: it must not pass."""
    it = await ordeal(seed, tmp_path, 1, FORGETFUL_OPERATIONS, FORGETFUL)
    lost = [fault for fault in it.checker.faults if "ok): the book has it 0 times" in fault]
    assert {"user", "company"} == {fault.split()[0] for fault in lost}

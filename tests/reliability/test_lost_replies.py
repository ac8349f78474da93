"""Row 2: the answer is lost after the commit, and the client asks again under the same key.

Nothing is killed here, so every doubt is one the proxy made: the work behind it is done.

    TALLYBOOK_RELIABILITY_DOUBTS=2000 pytest -s tests/reliability/test_lost_replies.py
"""

from __future__ import annotations

import time
from pathlib import Path

from tallybook.local.signing import LocalKeys
from tallybook.worker import Worker
from tests.conftest import Database
from tests.reliability.checker import Checker
from tests.reliability.conftest import size, templates
from tests.reliability.firms import Firm, employ
from tests.reliability.load import Load, summary
from tests.reliability.machine import errors, serving, tending, working
from tests.reliability.model import Life
from tests.reliability.proxy import DroppingProxy
from tests.world import World

DOUBTS = size("DOUBTS", 100)
DROPPED = 0.1
OPERATIONS_AT_ONCE = 1000


async def test_who_asks_again_is_answered_as_the_first_time(
    database: Database, world: World, seed: str, tmp_path: Path
) -> None:
    keys, offered, lives = LocalKeys.new(), templates(world), list[Life]()
    firms = list[Firm]()
    logs = [tmp_path / "serve.log", tmp_path / "worker.log"]
    began = time.monotonic()
    with (
        serving(database, keys, logs[0]) as port,
        working(database, logs[1]),
        tending(database),
    ):
        async with DroppingProxy(port, seed, DROPPED).listening() as proxy:
            load = Load(seed, proxy.port, keys, offered)
            while load.counts["in doubt"] < DOUBTS:
                more = load.lives(f"{len(lives)}", OPERATIONS_AT_ONCE)
                firms += employ(database.dsn("tallybook_operator"), more, load.credentials)
                await load.run(more)
                lives += more
    counts = load.counts
    print(f"{time.monotonic() - began:.0f} s:", summary(counts))
    worker = Worker(database.dsn("tallybook_worker"))
    await worker.drain()
    await worker.close()

    checker = Checker(database.dsn("tallybook_operator"), keys.coupon_secret)
    checker.discrepancies("in the end")
    checker.check(lives)
    checker.settle(lives)
    checker.check_firms(firms)
    checker.settle_firms(firms)
    checker.nothing_else()
    checker.faults += [f"logged: {line}" for log in logs for line in errors(log)]
    assert not checker.faults, checker.report()
    assert counts["503"] == counts["silence"] == 0
    assert counts["lost"] == proxy.dropped
    # Otherwise nothing was in doubt.
    assert counts["replayed after a doubt"] > DOUBTS / 2

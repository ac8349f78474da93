"""What the mission's lines speak of: the functions over HTTP, and the worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.stack import Stack, running

TALLYBOOK = Path(sys.executable).with_name("tallybook")
SECONDS_MAX = 60

Work = Callable[[], dict[str, int]]


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def work(database: Database) -> Work:
    """Lets a worker, a process of its own, do all that is due; returns what it decided."""

    def work() -> dict[str, int]:
        done = subprocess.run(
            [
                TALLYBOOK,
                "worker",
                "--once",
                "--json",
                "--database-url",
                database.dsn("tallybook_worker"),
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        assert done.returncode == 0, done.stderr
        counts: dict[str, int] = json.loads(done.stdout)
        return {verdict: count for verdict, count in counts.items() if count}

    return work

"""A worker as a process of its own, as `tallybook worker` starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Database

PROGRAM = Path(sys.executable).with_name("tallybook")


@pytest.fixture
def start_worker(database: Database) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts workers on the test's database; none of them outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [PROGRAM, "worker", "--database-url", database.dsn("tallybook_worker")]
        started.append(subprocess.Popen([*command, *options], stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()

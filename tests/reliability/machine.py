"""The processes under test: a Postgres that is killed as a whole, the server, the worker."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import msgspec
import psycopg

from tallybook import schema
from tallybook.local.cluster import Postmaster
from tallybook.local.postgres import DURABLE, EmbeddedPostgres, enable_logins
from tallybook.local.signing import LocalKeys
from tallybook.schema import ROOT
from tests.conftest import WORKSHOP, Database, remove_abandoned

TALLYBOOK = Path(sys.executable).with_name("tallybook")
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30
DEATH_SECONDS_MAX = 10
TEND_SECONDS = 0.1


@contextmanager
def durable(settings: Mapping[str, str] = DURABLE) -> Iterator[Database]:
    """A database on a server of its own, by default with all that Postgres promises, on a disk."""
    parent = Path(tempfile.gettempdir())
    remove_abandoned(parent)
    with tempfile.TemporaryDirectory(prefix=WORKSHOP, dir=parent) as name:
        folder = Path(name)
        # The account that root's server runs as must come through.
        folder.chmod(0o711)
        with (folder / "in_use").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with EmbeddedPostgres(folder / "postgres", settings=settings) as server:
                database = Database(server, "tallybook")
                with psycopg.connect(server.dsn(), autocommit=True) as connection:
                    connection.execute("create database tallybook")
                schema.apply(database.dsn())
                enable_logins(server.dsn())
                try:
                    yield database
                finally:
                    database.close()


def kill(server: EmbeddedPostgres) -> int:
    """SIGKILL every process of the server, until none is left; how many there were.

    The postmaster goes first, so that it neither mourns the others nor makes new ones.
    """
    postmaster = Postmaster.read(server.data)
    assert postmaster is not None
    killed: set[int] = set()
    deadline = time.monotonic() + DEATH_SECONDS_MAX
    while found := processes_in(server.data):
        assert time.monotonic() < deadline, f"they do not die: {found}"
        for pid in sorted(found, key=lambda pid: pid != postmaster.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
    return len(killed)


def processes_in(data: Path) -> set[int]:
    """The processes that stand in a data directory: a server's, and nobody else's."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == data:
                found.add(int(process.name))
    return found


@contextmanager
def serving(database: Database, keys: LocalKeys, log: Path) -> Iterator[int]:
    """`tallybook serve` as a process of its own, on a port; the block begins when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environment = {
        "DATABASE_URL": database.dsn("tallybook_functions"),
        "SUPABASE_JWKS": msgspec.json.encode(keys.jwks).decode(),
        "SUPABASE_SECRET_KEY": keys.secret_key,
        "COUPON_SECRET": keys.coupon_secret,
    }
    with _process(["serve", "--port", str(port), "--root", str(ROOT)], environment, log) as process:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield port


@contextmanager
def working(database: Database, log: Path) -> Iterator[None]:
    """`tallybook worker` as a process of its own; the block begins when it has looked for work."""
    address = database.dsn("tallybook_worker")
    with _process(["worker", "--database-url", address], {}, log) as process:
        deadline = time.monotonic() + START_SECONDS_MAX
        with psycopg.connect(database.dsn(), autocommit=True) as connection:
            while not connection.execute("select from internal.workers").rowcount:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
        yield


@contextmanager
def tending(database: Database) -> Iterator[None]:
    """What the worker does once a minute is done all the time: what is held for a second ends."""
    ended = Event()

    def tend() -> None:
        while not ended.wait(TEND_SECONDS):
            # The database may be away, or go.
            with suppress(psycopg.OperationalError):
                address = database.dsn("tallybook_worker")
                with psycopg.connect(address, autocommit=True) as connection:
                    while not ended.wait(TEND_SECONDS):
                        connection.execute("select public.expire_holds(1000)")

    with ThreadPoolExecutor(1) as pool:
        tended = pool.submit(tend)
        try:
            yield
        finally:
            ended.set()
            tended.result(STOP_SECONDS_MAX)


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A command of ours, which must end in order after the block."""
    # The code of this tree, wherever the command is installed from.
    here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TALLYBOOK_LOG_LEVEL": "warning"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [TALLYBOOK, *command],
            env={**here, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.terminate()
    try:
        code = process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    assert code == 0, log.read_text()


def errors(log: Path) -> list[dict[str, Any]]:
    """What a process logged as an error: a defect, for a lost database is a warning."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in map(json.loads, lines) if line["level"] == "error"]

"""The processes under test: a Postgres that is killed as a whole, a server too, the worker."""

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
from collections.abc import Callable, Iterator, Mapping
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
START_SECONDS_MAX = 60
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


class Serving:
    """`tallybook serve` as a process of its own on a port, which dies and comes back there."""

    def __init__(self, database: Database, keys: LocalKeys, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.log = log
        self._environment = {
            "DATABASE_URL": database.dsn("tallybook_functions"),
            "SUPABASE_JWKS": msgspec.json.encode(keys.jwks).decode(),
            "SUPABASE_SECRET_KEY": keys.secret_key,
            "COUPON_SECRET": keys.coupon_secret,
        }
        self.process = self._begin()

    def revive(self) -> None:
        """Begin again where it was killed, and return when it is ready."""
        self.process = self._begin()
        self.await_ready()

    def await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            alive = self.process.poll() is None and time.monotonic() < deadline
            assert alive, self.log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: whatever it was doing, it does not finish it."""
        self.process.kill()
        self.process.wait()

    def _begin(self) -> subprocess.Popen[bytes]:
        command = ["serve", "--port", str(self.port), "--root", str(ROOT)]
        return _begun(command, self._environment, self.log)


@contextmanager
def mortal(database: Database, keys: LocalKeys, log: Path) -> Iterator[Serving]:
    """A server that may be killed during the block, which begins when it is ready."""
    server = Serving(database, keys, log)
    with _ending(lambda: server.process, log):
        server.await_ready()
        yield server


@contextmanager
def serving(database: Database, keys: LocalKeys, log: Path) -> Iterator[int]:
    """A server on a port; the block begins when it is ready."""
    with mortal(database, keys, log) as server:
        yield server.port


@contextmanager
def working(database: Database, log: Path) -> Iterator[None]:
    """`tallybook worker` as a process of its own; the block begins when it has looked for work."""
    address = database.dsn("tallybook_worker")
    process = _begun(["worker", "--database-url", address], {}, log)
    with _ending(lambda: process, log):
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


def _begun(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A command of ours as a process."""
    # The code of this tree, wherever the command is installed from.
    here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TALLYBOOK_LOG_LEVEL": "warning"}
    with log.open("ab") as output:
        return subprocess.Popen(
            [TALLYBOOK, *command],
            env={**here, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def _ending(process: Callable[[], subprocess.Popen[bytes]], log: Path) -> Iterator[None]:
    """The process that is there after the block must end in order."""
    try:
        yield
    except BaseException:
        process().kill()
        process().wait()
        raise
    last = process()
    last.terminate()
    try:
        code = last.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        last.kill()
        last.wait()
        raise
    assert code == 0, log.read_text()


def errors(log: Path) -> list[dict[str, Any]]:
    """What a process logged as an error: a defect, for a lost database is a warning."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in map(json.loads, lines) if line["level"] == "error"]

"""The database every test stands on: one server a session, one fresh clone a test."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from tallybook.local.postgres import FAST, EmbeddedPostgres, enable_logins
from tests.world import World

TEMPLATE = "tallybook_template"
WORKSHOP = "tallybook-tests-"
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 2 * 1024**3
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """A clone of the template that belongs to one test."""

    server: EmbeddedPostgres
    name: str
    _opened: list[psycopg.Connection[Any]] = field(default_factory=list)

    def dsn(self, user: str = "postgres", tcp: bool = False) -> str:
        """A connection URI; with `tcp` for clients other than libpq."""
        return self.server.dsn(self.name, user, tcp)

    def connect(self, user: str = "postgres", autocommit: bool = True) -> psycopg.Connection[Any]:
        """A connection that is closed after the test, if the test has not closed it."""
        connection = psycopg.connect(self.dsn(user), autocommit=autocommit)
        self._opened.append(connection)
        return connection

    def close(self) -> None:
        """Close what `connect` opened."""
        while self._opened:
            self._opened.pop().close()


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """The session's own folder, in memory where there is room; every account can pass through.

    Not pytest's folder: that is closed to the account the server runs as when root tests.
    A clone takes 20 ms in memory, and up to half a second on a slow disk.
    """
    memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
    parent = MEMORY if memory else Path(tempfile.gettempdir())
    remove_abandoned(parent)
    with tempfile.TemporaryDirectory(prefix=WORKSHOP, dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with (folder / "in_use").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of sessions that were killed; a living one holds its lock."""
    for lock in parent.glob(f"{WORKSHOP}*/in_use"):
        with suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)


@pytest.fixture(scope="session")
def postgres(workshop: Path) -> Iterator[EmbeddedPostgres]:
    """The session's own server."""
    settings = {**FAST, "max_connections": "300"}
    with EmbeddedPostgres(workshop / "postgres", tcp=True, settings=settings) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """The name of a database with the schema and no rows, closed to connections."""
    # Imported here, so that tests without a schema run while the schema is broken.
    from tallybook import schema

    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        schema.apply(postgres.dsn(TEMPLATE))
        enable_logins(postgres.dsn())
        connection.execute(
            sql.SQL("alter database {} with is_template true allow_connections false").format(
                sql.Identifier(TEMPLATE)
            )
        )
    return TEMPLATE


@contextmanager
def cloned(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A fresh clone, whose ledger must agree with itself after the block."""
    clone = Database(postgres, f"t_{next(_numbers)}")
    name = sql.Identifier(clone.name)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                name, sql.Identifier(template)
            )
        )
        try:
            yield clone
            clone.close()
            assert_no_discrepancies(clone)
        finally:
            clone.close()
            connection.execute(sql.SQL("drop database {} with (force)").format(name))


@pytest.fixture
def database(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A fresh clone for one test."""
    with cloned(postgres, template) as clone:
        yield clone


@pytest.fixture
def world(database: Database) -> World:
    """Sentences about users, events and coupons in the test's own database."""
    return World(database)


def assert_no_discrepancies(database: Database) -> None:
    """Print every row of `ledger.discrepancies`, and fail when there is one."""
    with psycopg.connect(database.dsn(), row_factory=dict_row) as connection:
        rows = connection.execute("select * from ledger.discrepancies").fetchall()
    for row in rows:
        print("discrepancy:", row)
    assert not rows, f"{len(rows)} rows in ledger.discrepancies"

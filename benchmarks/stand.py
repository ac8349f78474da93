"""The server that everything is measured on: embedded, durable, made for the run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import world
from tallybook import schema
from tallybook.local.postgres import DURABLE, EmbeddedPostgres, enable_logins

HERE = Path(__file__).parent
WORLD = "world"
SEGMENTS = 48

# Room for the load, and no checkpoint in the middle of a round; flushing stays as it is for real.
SETTINGS = {
    **DURABLE,
    "max_connections": "200",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",
    "checkpoint_timeout": "30min",
}


@dataclass(frozen=True, slots=True)
class Database:
    """One measure's own copy of the world."""

    server: EmbeddedPostgres
    name: str

    def dsn(self, user: str = "postgres", tcp: bool = False) -> str:
        """A connection URI; with `tcp` for clients other than libpq."""
        return self.server.dsn(self.name, user, tcp)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def number(self, query: str, *values: Any) -> int:
        """The first value of the first row."""
        return int(self.rows(query, *values)[0][0])

    def settle(self) -> None:
        """Write out what the previous measure left, so that the next one does not pay for it."""
        self.rows("vacuum analyze")
        self.rows("checkpoint")


class Stand:
    """Gives out databases that hold the schema, the yardsticks and a world of `users` users."""

    def __init__(self, server: EmbeddedPostgres, users: int) -> None:
        self.server = server
        self.users = users
        self._numbers = count(1)
        self._create(WORLD, "template0")
        dsn = server.dsn(WORLD)
        schema.apply(dsn)
        # Upkeep posts for everybody, and an operator imports; each is measured under its policies.
        enable_logins(
            server.dsn(), ["tallybook_functions", "tallybook_upkeep", "tallybook_operator"]
        )
        with psycopg.connect(dsn) as connection:
            connection.execute((HERE / "yardsticks.sql").read_bytes())
            world.populate(connection, users)
        self._reuse_segments(dsn)

    @staticmethod
    def _reuse_segments(dsn: str) -> None:
        """Leave the log as a server has it that runs for a while: with segments to use again.

        A new one fills each with zeros first, for which who writes more would pay more.
        """
        with psycopg.connect(dsn, autocommit=True) as connection:
            for _ in range(SEGMENTS):
                connection.execute("select pg_logical_emit_message(false, 'bench', '')")
                connection.execute("select pg_switch_wal()")
            connection.execute("checkpoint")

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A copy of the world, dropped at the end."""
        database = Database(self.server, f"measure_{next(self._numbers)}")
        self._create(database.name, WORLD)
        try:
            database.settle()
            yield database
        finally:
            self._run(sql.SQL("drop database {} with (force)"), database.name)

    @property
    def version(self) -> str:
        """The server's version."""
        return str(Database(self.server, WORLD).rows("show server_version")[0][0])

    def _create(self, name: str, template: str) -> None:
        self._run(sql.SQL("create database {} template {} strategy file_copy"), name, template)

    def _run(self, statement: sql.SQL, *names: str) -> None:
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(statement.format(*map(sql.Identifier, names)))


@contextmanager
def stand(users: int) -> Iterator[Stand]:
    """A server in a temporary folder, on a disk that keeps what it is told to keep."""
    with tempfile.TemporaryDirectory(prefix="tallybook-bench-") as name:
        folder = Path(name)
        # The account that root drops to must reach the data.
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "postgres", tcp=True, settings=SETTINGS) as server:
            yield Stand(server, users)

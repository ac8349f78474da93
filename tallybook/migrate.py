"""Applies `supabase/migrations/` to a database, in the Supabase CLI's own books.

What is applied stands in `supabase_migrations.schema_migrations`, statement by statement, as
`supabase db push` writes it; so either tool goes on where the other stopped. The CLI does not
notice that a migration was edited after it was applied. This does: the history holds what ran, and
its checksum is compared with the file's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psycopg

from tallybook import statements
from tallybook.schema import ROOT, checksum, migrations

LOCK: Final = 0x7A11_B00C
State = Literal["applied", "pending", "edited", "out of order", "not in the folder"]
Connection = psycopg.Connection[tuple[Any, ...]]


class MigrationRefused(Exception):
    """The history and the folder do not agree; nothing was applied."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration and where it stands; `name` is the file's, without `.sql`."""

    version: str
    name: str
    state: State


def up(
    dsn: str, *, dry_run: bool = False, required: Sequence[str] = (), root: Path = ROOT
) -> list[str]:
    """Apply what is pending, each file in its own transaction; return the names, oldest first.

    With `required` all files are one transaction, in the end of which these tables or indexes must
    exist: either everything is there afterwards, or nothing was changed.
    Raises MigrationRefused when an applied file was edited, when one is pending that is older than
    an applied one, when the database knows one that the folder does not, or when something that is
    required is missing. Raises psycopg.Error when a file does not apply: it leaves nothing behind,
    and the files before it stay applied.
    """
    done: list[str] = []
    paths = {path.stem: path for path in migrations(root)}
    with psycopg.connect(dsn) as connection, _whole(connection, () if dry_run else required):
        while True:
            # Asked anew for every file: whoever held the lock before may have applied it.
            with connection.transaction():
                connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
                pending = _pending(_status(connection, root))
                if dry_run:
                    return pending
                if not pending:
                    return done
                _apply(connection, paths[pending[0]])
            done.append(pending[0])


@contextmanager
def _whole(connection: Connection, required: Sequence[str]) -> Iterator[None]:
    """One transaction around all, when there is something that it must bring about."""
    if not required:
        yield
        return
    with connection.transaction():
        yield
        missing = [
            name
            for name in required
            if connection.execute("select to_regclass(%s)", (name,)).fetchone() == (None,)
        ]
        if missing:
            raise MigrationRefused(f"It would not bring {', '.join(missing)}")


def status(dsn: str, *, root: Path = ROOT) -> list[Migration]:
    """Every migration of the folder and of the database's history, oldest first."""
    with psycopg.connect(dsn) as connection:
        return _status(connection, root)


def _pending(found: Sequence[Migration]) -> list[str]:
    faults = [f"{m.name}: {m.state}" for m in found if m.state not in ("applied", "pending")]
    if faults:
        raise MigrationRefused("; ".join(faults))
    return [m.name for m in found if m.state == "pending"]


def _status(connection: Connection, root: Path) -> list[Migration]:
    history: dict[str, tuple[str, str | None]] = {}
    if connection.execute(
        "select to_regclass('supabase_migrations.schema_migrations')"
    ).fetchone() != (None,):
        for version, name, ran in connection.execute(
            "select version, coalesce(name, ''), statements"
            " from supabase_migrations.schema_migrations"
        ):
            history[version] = (name, _checksum(ran) if ran else None)
    latest = max(history, default="")
    found = []
    for path in migrations(root):
        version, _, name = path.stem.partition("_")
        state: State = "pending" if version > latest else "out of order"
        if version in history:
            # `supabase migration repair` may note a migration without its statements.
            ran_checksum = history.pop(version)[1]
            is_same = ran_checksum in (None, _checksum(list(statements.split(path.read_text()))))
            state = "applied" if is_same else "edited"
        found.append(Migration(version, path.stem, state))
    found += [Migration(v, f"{v}_{name}", "not in the folder") for v, (name, _) in history.items()]
    return sorted(found, key=lambda m: m.version)


def _apply(connection: Connection, path: Path) -> None:
    text = path.read_text()
    version, _, name = path.stem.partition("_")
    connection.execute("create schema if not exists supabase_migrations")
    connection.execute(
        "create table if not exists supabase_migrations.schema_migrations"
        " (version text not null primary key, statements text[], name text)"
    )
    # Who waits for a table's lock makes everybody else wait behind it.
    connection.execute("set local lock_timeout = '10s'")
    connection.execute("set local statement_timeout = 0")
    try:
        connection.execute(text.encode())
    except psycopg.Error as error:
        position = int(error.diag.statement_position or 0)
        line = text.count("\n", 0, position) + 1 if position else "?"
        error.add_note(f"in {path.name}, line {line}")
        raise
    connection.execute(
        "insert into supabase_migrations.schema_migrations (version, statements, name)"
        " values (%s, %s, %s)",
        (version, list(statements.split(text)), name),
    )


def _checksum(ran: Sequence[str]) -> str:
    # Tools cut and trim a file in their own ways: white space around a statement is not part of it.
    return checksum("\0".join(statement.strip().rstrip(";") for statement in ran).encode())

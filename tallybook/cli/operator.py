"""A session as the operator: it calls procedures, changes settings, and ends when it is refused."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, LiteralString, NoReturn

import psycopg
import typer
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from tallybook.cli.connection import REFUSED, database_url, fail, print_json, unreachable
from tallybook.refusal import Refusal

CONNECT_SECONDS: Final = 10
LOCK_SECONDS: Final = 10

Actor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="TALLYBOOK_ACTOR",
        help="Who acts, for the audit log; else your account's name here.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]
OptionalReason = Annotated[
    str | None, typer.Option("--reason", help="Why, for the audit log.", show_default=False)
]

Query = LiteralString | sql.SQL | sql.Composed
Arguments = Mapping[str, Any] | Sequence[Any]
Missing = tuple[str, str]
"""The code and detail of the refusal when a row is not there."""


@dataclass(frozen=True, slots=True)
class Operator:
    """What a command does in its session. A refusal is raised, and ends the command."""

    connection: psycopg.Connection[DictRow]
    actor: str
    dry_run: bool = False

    def rows(self, query: Query, arguments: Arguments = ()) -> list[DictRow]:
        """What a query finds."""
        with _refusals():
            return self.connection.execute(query, arguments or None).fetchall()

    def row(self, query: Query, arguments: Arguments, *, missing: Missing) -> DictRow:
        """The one row that a query finds."""
        return _one(self.rows(query, arguments), missing)

    def call(self, procedure: str, **arguments: Any) -> dict[str, Any]:
        """A procedure's answer, by its name and its arguments' without their p_."""
        answer: dict[str, Any] = self.value(procedure, **arguments)
        if refusal := answer.get("refusal"):
            # What has to be remembered of a refusal is committed, so it comes as an answer.
            raise Refusal(
                refusal["code"], refusal["status"], refusal["detail"], hint=refusal["hint"]
            )
        return answer

    def value(self, procedure: str, **arguments: Any) -> Any:
        """What a procedure returns, whatever it is."""
        named = sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(f"p_{name}"), sql.Placeholder(name))
            for name in arguments
        )
        call = sql.SQL("select {}({}) as answer").format(sql.Identifier("public", procedure), named)
        values = {
            name: Jsonb(value) if isinstance(value, dict) else value
            for name, value in arguments.items()
        }
        with _refusals(), self.connection.transaction(force_rollback=self.dry_run):
            (row,) = self.connection.execute(call, values).fetchall()
        return row["answer"]

    def change(
        self,
        query: Query,
        arguments: Arguments,
        reason: str | None,
        *,
        missing: Missing = ("not_found", "There is no such row."),
    ) -> DictRow:
        """Change one row of settings, which the query returns.

        Who and why go to the audit log, whose trigger looks for them in the session.
        """
        if reason is not None and not reason.strip():
            raise Refusal("reason_required", 400, "reason: must say why")
        with _refusals(), self.connection.transaction(force_rollback=self.dry_run):
            self.connection.execute(
                "select set_config('tallybook.reason', %s, true)", (reason or "",)
            )
            found = self.connection.execute(query, arguments).fetchall()
            return _one(found, missing)

    def moment(self, when: datetime | timedelta) -> datetime:
        """A time, or what lies so far before the database's present."""
        if isinstance(when, datetime):
            return when
        (row,) = self.rows("select internal.clock() - %s as at", (when,))
        at: datetime = row["at"]
        return at


@contextmanager
def reading(database: str | None, *, json: bool) -> Iterator[Operator]:
    """A session that changes nothing, whatever is called in it."""
    with _session(database, json) as connection:
        connection.execute("set default_transaction_read_only = on")
        yield Operator(connection, actor="")


@contextmanager
def writing(
    database: str | None, *, json: bool, actor: str | None, dry_run: bool
) -> Iterator[Operator]:
    """A session whose calls are each a transaction; a dry run takes each one back."""
    with _session(database, json) as connection:
        operator = Operator(connection, actor or _account(), dry_run)
        connection.execute("select set_config('tallybook.actor', %s, false)", (operator.actor,))
        yield operator


def refuse(refusal: Refusal, *, json: bool) -> NoReturn:
    """Say what was refused, and exit with code 1."""
    if json:
        print_json({"refusal": refusal_json(refusal)})
    fail(f"{refusal.code}: {refusal.detail or refusal.title}", REFUSED)


def refusal_json(refusal: Refusal) -> dict[str, Any]:
    """A refusal as the database's procedures tell it."""
    return {name: getattr(refusal, name) for name in ("code", "status", "detail", "hint")}


def told(answer: Mapping[str, Any], words: str, *, json: bool, dry_run: bool) -> None:
    """Tell what came of a command that writes."""
    if json:
        print_json({"dry_run": dry_run, **answer})
    else:
        typer.echo(f"Dry run, nothing changed: {words}" if dry_run else words)


@contextmanager
def _session(database: str | None, json: bool) -> Iterator[psycopg.Connection[DictRow]]:
    url = database_url(database)
    try:
        with psycopg.connect(
            url, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS
        ) as connection:
            connection.execute("set role tallybook_operator")
            connection.execute("set timezone = 'UTC'")
            connection.execute(
                sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{LOCK_SECONDS * 1000:.0f}ms"))
            )
            yield connection
    except Refusal as refusal:
        refuse(refusal, json=json)
    except psycopg.Error as error:
        unreachable(error)


@contextmanager
def _refusals() -> Iterator[None]:
    """Make a refusal of what the database says no to: a procedure's, a constraint's, a type's."""
    try:
        yield
    except psycopg.Error as error:
        said = error.diag
        message = said.message_primary or str(error)
        refusal = Refusal.from_sqlstate(
            error.sqlstate, message, said.message_detail, said.message_hint
        )
        if refusal is None and (error.sqlstate or "")[:2] in ("22", "23"):
            # Constraints are named after the fact that they state.
            refusal = Refusal(said.constraint_name or "invalid_value", 400, message)
        if refusal is None:
            raise
        raise refusal from None


def _one(found: list[DictRow], missing: Missing) -> DictRow:
    if not found:
        code, detail = missing
        raise Refusal(code, 404, detail)
    return found[0]


def _account() -> str:
    """The operating system's name of whoever calls."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container's user may have a number only.
        return f"uid {os.getuid()}"

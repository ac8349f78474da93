"""`tallybook refresh-cache` and `balance`: what users can spend, made right or just shown."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import psycopg
import typer
from psycopg.rows import dict_row
from rich.progress import track

from tallybook.cli.connection import (
    REFUSED,
    UNUSABLE,
    DatabaseUrl,
    DryRun,
    Json,
    database_url,
    fail,
    print_json,
    stderr,
    unreachable,
)

_POINTS = """
select u.user_id, coalesce(a.balance - a.held, 0) as available_points,
       c.available_points as cached_points, coalesce(c.pending_points, 0) as pending_points
  from unnest(%s::uuid[]) as u(user_id)
  left join ledger.accounts as a on a.book_id = u.user_id and a.account = 'points'
  left join public.user_points_cache as c on c.user_id = u.user_id
"""

_EVERYBODY = """
select a.book_id from ledger.accounts as a where a.account = 'points'
union
select c.user_id from public.user_points_cache as c
order by 1
"""


def balance(user: UUID, database: DatabaseUrl = None, json: Json = False) -> None:
    """Show what a user can spend, by the ledger, and what still waits for validation."""
    try:
        with _operator(database_url(database)) as connection:
            (found,) = connection.execute(_POINTS, ([user],)).fetchall()
    except psycopg.Error as error:
        unreachable(error)
    if json:
        print_json(found)
    else:
        typer.echo(f"available {found['available_points']}, pending {found['pending_points']}")


def refresh_cache(
    users: Annotated[list[UUID] | None, typer.Argument(show_default=False)] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every user there is.")] = False,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make users' cached balances what the ledger says, and post what was validated by hand.

    Exit code 1 when a refresh was refused; the others are done all the same.
    """
    if bool(users) == everybody:
        fail("Name users, or give --all.", UNUSABLE)
    try:
        with _operator(database_url(database)) as connection:
            wanted = users or [row["book_id"] for row in connection.execute(_EVERYBODY)]
            watched = track(wanted, "Refreshing", console=stderr, disable=len(wanted) < 100)
            done = [_refresh(connection, user, dry_run) for user in watched]
    except psycopg.Error as error:
        unreachable(error)
    refused = [row for row in done if "refused" in row]
    if json:
        print_json({"dry_run": dry_run, "users": done})
    else:
        for row in done if users else refused:
            typer.echo(" ".join(f"{name}={value}" for name, value in row.items()))
        typer.echo(f"{len(done) - len(refused)} {'to refresh' if dry_run else 'refreshed'}")
    if refused:
        raise typer.Exit(REFUSED)


def _refresh(connection: psycopg.Connection[Any], user: UUID, dry_run: bool) -> dict[str, Any]:
    (before,) = connection.execute(_POINTS, ([user],)).fetchall()
    row = {"user_id": user, "cached_points": before["cached_points"]}
    if dry_run:
        return row | {"available_points": before["available_points"]}
    try:
        (after,) = connection.execute(
            "select public.refresh_user_points_cache(%s) as points", (user,)
        ).fetchall()
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith("PT"):
            raise
        return row | {"refused": error.diag.message_primary}
    return row | {"available_points": after["points"]}


def _operator(url: str) -> psycopg.Connection[dict[str, Any]]:
    """A session as the operator, each statement its own transaction."""
    connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)
    connection.execute("set role tallybook_operator")
    return connection

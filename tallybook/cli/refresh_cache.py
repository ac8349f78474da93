"""`tallybook refresh-cache` and `balance`: what users can spend, made right or just shown."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer
from rich.progress import track

from tallybook.cli.connection import (
    REFUSED,
    UNUSABLE,
    DatabaseUrl,
    DryRun,
    Json,
    fail,
    print_json,
    stderr,
)
from tallybook.cli.operator import Operator, reading, writing
from tallybook.refusal import Refusal

_POINTS = """
select u.user_id, coalesce(a.balance - a.held, 0) as available_points,
       c.available_points as cached_points, coalesce(c.pending_points, 0) as pending_points
  from unnest(%s::uuid[]) as u(user_id)
  left join ledger.accounts as a on a.book_id = u.user_id and a.account = 'points'
  left join public.user_points_cache as c on c.user_id = u.user_id
"""

# What takes more than there is a refresh leaves, and it would not show in what it returns.
_UNPOSTED = """
select 1 from public.points_events as e
 where e.user_id = %s and e.validation_status = 'validated' and e.transfer_id is null
   and e.points_delta <> 0
 limit 1
"""

_EVERYBODY = """
select a.book_id from ledger.accounts as a where a.account = 'points'
union
select c.user_id from public.user_points_cache as c
union
select e.user_id from public.points_events as e
 where e.validation_status = 'validated' and e.transfer_id is null and e.points_delta <> 0
order by 1
"""


def balance(user: UUID, database: DatabaseUrl = None, json: Json = False) -> None:
    """Show what a user can spend, by the ledger, and what still waits for validation."""
    with reading(database, json=json) as operator:
        (found,) = operator.rows(_POINTS, ([user],))
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

    Exit code 1 when a refresh was refused, or left what takes more than the user has unposted;
    the others are done all the same.
    """
    if bool(users) == everybody:
        fail("Name users, or give --all.", UNUSABLE)
    with writing(database, json=json, actor=None, dry_run=dry_run) as operator:
        wanted = users or [row["book_id"] for row in operator.rows(_EVERYBODY)]
        watched = track(wanted, "Refreshing", console=stderr, disable=len(wanted) < 100)
        done = [_refresh(operator, user) for user in watched]
    refused = [row for row in done if "refused" in row]
    if json:
        print_json({"dry_run": dry_run, "users": done})
    else:
        for row in done if users else refused:
            typer.echo(" ".join(f"{name}={value}" for name, value in row.items()))
        typer.echo(f"{len(done) - len(refused)} {'to refresh' if dry_run else 'refreshed'}")
    if refused:
        raise typer.Exit(REFUSED)


def _refresh(operator: Operator, user: UUID) -> dict[str, Any]:
    (before,) = operator.rows(_POINTS, ([user],))
    row = {"user_id": user, "cached_points": before["cached_points"]}
    try:
        points = operator.value("refresh_user_points_cache", user_id=user)
    except Refusal as refusal:
        return row | {"refused": refusal.code}
    row["available_points"] = points
    if operator.rows(_UNPOSTED, (user,)):
        row["refused"] = "insufficient_funds"
    return row

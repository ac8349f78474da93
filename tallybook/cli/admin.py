"""`tallybook admin`: who administers the whole."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, OptionalReason, reading, told, writing
from tallybook.cli.tables import show

app = typer.Typer(no_args_is_help=True, help="Who administers the whole.")

UserArgument = Annotated[
    UUID, typer.Argument(help="The id that the sign-in service gave them.", show_default=False)
]


@app.command("list")
def list_admins(database: DatabaseUrl = None, json: Json = False) -> None:
    """Show the administrators, and who was one."""
    with reading(database, json=json) as operator:
        admins = operator.rows(
            "select a.id, a.email, a.is_active, a.created_at"
            " from public.system_admins as a order by a.created_at, a.id"
        )
    if json:
        print_json({"admins": admins})
    else:
        show(
            admins, {"id": "user", "email": "e-mail", "is_active": "active", "created_at": "since"}
        )


@app.command()
def add(
    user_id: UserArgument,
    email: Annotated[str, typer.Option(help="How the audit log names them.")],
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a user an administrator, or one again."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        admin = operator.change(
            "insert into public.system_admins as a (id, email) values (%s, %s)"
            " on conflict (id) do update set email = excluded.email, is_active = true"
            " returning a.id, a.email, a.is_active",
            (user_id, email),
            reason,
        )
    told(admin, f"{user_id} administers, as {email}", json=json, dry_run=dry_run)


@app.command()
def remove(
    user_id: UserArgument,
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take the office from somebody. The row stays, so that old entries keep their name."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        admin = operator.change(
            "update public.system_admins as a set is_active = false"
            " where a.id = %s and a.is_active returning a.id, a.email, a.is_active",
            (user_id,),
            reason,
            missing=("admin_not_found", f"user_id: {user_id} is no active administrator"),
        )
    told(admin, f"{user_id} administers no more", json=json, dry_run=dry_run)

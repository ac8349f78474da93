"""`tallybook partner`: who works at a partner's till, and may verify and consume its coupons."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, OptionalReason, reading, told, writing
from tallybook.cli.tables import show

app = typer.Typer(no_args_is_help=True, help="Who may take a partner's coupons.")

PartnerArgument = Annotated[
    str, typer.Argument(help="As the templates' partner_id has it.", show_default=False)
]
UserArgument = Annotated[UUID, typer.Argument(show_default=False)]


@app.command("list")
def list_members(
    partner_id: Annotated[str | None, typer.Argument(show_default=False)] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show the members of all partners, or of one."""
    with reading(database, json=json) as operator:
        members = operator.rows(
            "select m.partner_id, m.user_id, m.created_at from public.partner_members as m"
            " where %(partner)s::text is null or m.partner_id = %(partner)s order by 1, 3, 2",
            {"partner": partner_id},
        )
    if json:
        print_json({"members": members})
    else:
        show(members, {"partner_id": "partner", "user_id": "user", "created_at": "since"})


@app.command()
def add(
    partner_id: PartnerArgument,
    user_id: UserArgument,
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let a user take a partner's coupons. To add a member again is to add nobody."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        member = operator.change(
            "with added as ("
            " insert into public.partner_members as m (partner_id, user_id) values (%(p)s, %(u)s)"
            " on conflict do nothing returning m.partner_id)"
            " select %(p)s::text as partner_id, %(u)s::uuid as user_id,"
            "        exists (select from added) as added",
            {"p": partner_id, "u": user_id},
            reason,
        )
    told(member, f"{user_id} takes coupons of {partner_id}", json=json, dry_run=dry_run)


@app.command()
def remove(
    partner_id: PartnerArgument,
    user_id: UserArgument,
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let a user take a partner's coupons no more."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        member = operator.change(
            "delete from public.partner_members as m where m.partner_id = %s and m.user_id = %s"
            " returning m.partner_id, m.user_id",
            (partner_id, user_id),
            reason,
            missing=("member_not_found", f"user_id: {user_id} is no member of {partner_id}"),
        )
    told(member, f"{user_id} takes no coupons of {partner_id}", json=json, dry_run=dry_run)

"""`tallybook points`: what earns points, how long they keep, and stopping it all for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, Reason, reading, told, writing
from tallybook.cli.points_rules import rules, set_program, set_rule
from tallybook.cli.tables import print_line, show

app = typer.Typer(no_args_is_help=True, help="What earns points, and for how long they keep.")


@app.command()
def expiring(
    user: Annotated[UUID | None, typer.Option(show_default=False)] = None,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How far to look ahead.")] = 30,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show which points will expire when, the soonest first, if nothing is spent."""
    with reading(database, json=json) as operator:
        lots = operator.rows(
            "select s.* from public.points_expiry_schedule as s"
            " where (%(user)s::uuid is null or s.user_id = %(user)s)"
            "   and s.expires_at < internal.clock() + %(ahead)s"
            " order by s.expires_at, s.user_id, s.event_id limit %(limit)s",
            {"user": user, "ahead": timedelta(days=days), "limit": limit},
        )
    points = sum(lot["points"] for lot in lots)
    if json:
        print_json({"points": points, "lots": lots})
        return
    columns = {"user_id": "user", "expires_at": "expires", "points": "points", "event_type": "for"}
    show(lots, columns, empty=f"Nothing expires within {days} days.")
    if lots:
        print_line(f"{points} points" + (", and perhaps more" if len(lots) == limit else ""))


@app.command()
def suspend(
    reason: Reason,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Stop: what is pending waits for a review, nothing is on offer. Nothing is lost."""
    _switch("suspend_points", "wait for a review", "are no longer on offer",
            reason, actor, database, dry_run, json)  # fmt: skip


@app.command()
def resume(
    reason: Reason,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Go on: what `suspend` stopped is pending and on offer again."""
    _switch("resume_points", "are pending again", "are on offer again",
            reason, actor, database, dry_run, json)  # fmt: skip


app.command()(rules)
app.command("set-rule")(set_rule)
app.command("set-program")(set_program)


def _switch(
    procedure: str,
    events: str,
    templates: str,
    reason: str,
    actor: str | None,
    database: str | None,
    dry_run: bool,
    json: bool,
) -> None:
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(procedure, user_id=None, reason=reason, actor=operator.actor)
    words = f"{answer['events']} events {events}, {answer['templates']} templates {templates}"
    told(answer, words, json=json, dry_run=dry_run)

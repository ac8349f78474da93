"""`tallybook review insights`: what fraud is suspected, and how often the rules are right."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, reading, told, writing
from tallybook.cli.tables import show


def insights(
    only_open: Annotated[bool, typer.Option("--open", help="Those that nobody resolved.")] = False,
    user: Annotated[UUID | None, typer.Option(show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show what fraud is suspected, the latest first."""
    with reading(database, json=json) as operator:
        found = operator.rows(
            "select f.insight_id, f.user_id, f.insight_type, f.severity, f.score, f.details,"
            "       f.related_event_ids, f.created_at, f.resolved, f.resolved_at, f.resolved_by,"
            "       f.resolution_notes"
            "  from public.fraud_insights as f"
            " where (not %(open)s or not f.resolved)"
            "   and (%(user)s::uuid is null or f.user_id = %(user)s)"
            " order by f.created_at desc, f.insight_id desc limit %(limit)s",
            {"open": only_open, "user": user, "limit": limit},
        )
    if json:
        print_json({"insights": found})
        return
    columns = {"insight_id": "insight", "user_id": "user", "insight_type": "type"}
    if user:
        del columns["user_id"]
        columns |= {"created_at": "since", "resolved": "resolved"}
    show(found, columns | {"severity": "severity"}, empty="No insights.")


def resolve(
    insight: Annotated[UUID, typer.Argument(show_default=False)],
    notes: Annotated[str, typer.Option(help="What was found out.")],
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Close an insight."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "resolve_fraud_insight",
            user_id=None,
            insight_id=insight,
            notes=notes,
            actor=operator.actor,
        )
    told(answer, f"{insight} is resolved", json=json, dry_run=dry_run)


def precision(database: DatabaseUrl = None, json: Json = False) -> None:
    """Show how often each rule was right, as far as events were labelled."""
    with reading(database, json=json) as operator:
        rules = operator.rows(
            "select p.* from public.trust_rule_precision as p order by p.rule_id, p.version"
        )
    if json:
        print_json({"rules": rules})
    else:
        show(rows=rules, empty="No rule has hit yet.")

"""`tallybook review approve`, `reject` and `label`: what a person says about an event."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from tallybook.cli.connection import REFUSED, DatabaseUrl, DryRun, Json, print_json, stderr
from tallybook.cli.operator import Actor, Reason, refusal_json, told, writing
from tallybook.cli.tables import print_line, show
from tallybook.refusal import Refusal

EventArgument = Annotated[UUID, typer.Argument(show_default=False)]
EventsArgument = Annotated[list[UUID], typer.Argument(show_default=False)]


class Label(StrEnum):
    """What an event turned out to be."""

    CONFIRMED_FRAUD = "confirmed_fraud"
    FALSE_POSITIVE = "false_positive"


LabelOption = Annotated[Label | None, typer.Option(help="What it was.", show_default=False)]


def approve(
    events: EventsArgument,
    reason: Reason,
    label: LabelOption = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let events count. Each is decided by itself; exit code 1 when one was refused."""
    _decide(events, "approved", reason, label, actor, database, dry_run, json)


def reject(
    events: EventsArgument,
    reason: Reason,
    label: LabelOption = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let events never count. Each is decided by itself; exit code 1 when one was refused."""
    _decide(events, "rejected", reason, label, actor, database, dry_run, json)


def label_event(
    event: EventArgument,
    label: Annotated[Label, typer.Argument(show_default=False)],
    note: Annotated[
        str | None, typer.Option(help="What was found out.", show_default=False)
    ] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Note what a decided event turned out to be; rules are measured by it."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "label_points_event",
            user_id=None,
            event_id=event,
            label=str(label),
            note=note,
            actor=operator.actor,
        )
    told(answer, f"{event} is labelled {label}", json=json, dry_run=dry_run)


def _decide(
    events: list[UUID],
    decision: str,
    reason: str,
    label: Label | None,
    actor: str | None,
    database: str | None,
    dry_run: bool,
    json: bool,
) -> None:
    done: list[dict[str, Any]] = []
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        for event in events:
            try:
                answer = operator.call(
                    "review_points_event",
                    user_id=None,
                    event_id=event,
                    decision=decision,
                    reason=reason,
                    label=label and str(label),
                    actor=operator.actor,
                )
            except Refusal as refusal:
                stderr.print(f"{event}: {refusal}", style="red", markup=False, highlight=False)
                done.append({"event_id": str(event), "refusal": refusal_json(refusal)})
            else:
                done.append(answer)
    if json:
        print_json({"dry_run": dry_run, "events": done})
    else:
        decided = [row for row in done if "refusal" not in row]
        if dry_run:
            print_line("Dry run, nothing changed.")
        show(
            decided,
            {"event_id": "event", "validation_status": "status", "points_awarded": "points"},
            empty="Nothing was decided.",
        )
    if any("refusal" in row for row in done):
        raise typer.Exit(REFUSED)

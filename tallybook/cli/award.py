"""`tallybook award`: points by an operator's decision."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json
from tallybook.cli.operator import Actor, Reason, told, writing

POINTS_MAX: Final = 2_147_483_647


def award(
    user: Annotated[UUID, typer.Argument(show_default=False)],
    points: Annotated[
        int,
        typer.Argument(
            min=-POINTS_MAX, max=POINTS_MAX, help="Below zero takes points.", show_default=False
        ),
    ],
    reason: Reason,
    key: Annotated[
        str | None, typer.Option("--key", help="Under one key an award is made once.")
    ] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a user points, or take some: `tallybook award USER -50 --reason …`.

    A large award waits until a second person approves it: `tallybook review approve EVENT`.
    """
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "award_points",
            user_id=None,
            to_user_id=user,
            points=points,
            reason=reason,
            idempotency_key=key,
            actor=operator.actor,
        )
    words = f"{points:+d} points for {user}, who has {answer['points_available']} now"
    if answer["status"] == "pending_review":
        words = (
            f"{points:+d} points for {user} wait for a second person:"
            f" tallybook review approve {answer['event_id']} --reason …"
        )
    if answer["replayed"]:
        words += " (made before, under the same key)"
    told(answer, words, json=json, dry_run=dry_run)

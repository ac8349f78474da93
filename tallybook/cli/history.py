"""`tallybook history`: one user's events, the latest first."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, Json, print_json
from tallybook.cli.operator import reading
from tallybook.cli.tables import print_line, show
from tallybook.cli.times import parsed_time

# Together with an id they fit into 100 columns.
_COLUMNS = {
    "event_time": "time",
    "event_type": "type",
    "points_delta": "points",
    "validation_status": "status",
    "trust_score": "trust",
    "id": "event",
}


def history(
    user: Annotated[UUID, typer.Argument(show_default=False)],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Events at most.")] = 50,
    before: Annotated[
        datetime | None,
        typer.Option(parser=parsed_time, metavar="TIME", help="Where the last page ended."),
    ] = None,
    before_id: Annotated[
        UUID | None,
        typer.Option(help="And with which event: several may have one time."),
    ] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show what a user submitted, was given and spent."""
    with reading(database, json=json) as operator:
        events = operator.rows(
            "select * from public.report_history("
            "%s, %s, coalesce(%s, 'infinity'::timestamptz), %s)",
            (user, limit, before, before_id),
        )
    last = events[-1] if len(events) == limit else None
    if json:
        onward = {
            "next_before": last and last["event_time"],
            "next_before_id": last and last["id"],
        }
        print_json({"user_id": user, "events": events, **onward})
        return
    show(events, _COLUMNS, empty="No events.")
    if last:
        # The exact time: a shortened one would leave events out.
        print_line(f"Go on with --before {last['event_time'].isoformat()} --before-id {last['id']}")

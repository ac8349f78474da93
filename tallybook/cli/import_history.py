"""`tallybook import`: points earned before this book was kept, from a file."""

from __future__ import annotations

from typing import Annotated

import typer

from tallybook.cli import connection, importing
from tallybook.history import Columns, Plan, Rounding


def import_history(
    file: importing.File,
    columns: Annotated[
        str,
        typer.Option(
            help="Which column holds what: user, time, points; type, key if there are such.",
        ),
    ] = "user=user_id,time=event_time,points=points",
    source: importing.Source = "",
    event_type: Annotated[
        str, typer.Option(help="What kind of event a line is.")
    ] = "history_import",
    rounding: Annotated[
        Rounding, typer.Option(help="How decimals become points.")
    ] = Rounding.FLOOR,
    connections: importing.Connections = 1,
    database_url: connection.DatabaseUrl = None,
    dry_run: connection.DryRun = False,
    as_json: connection.Json = False,
) -> None:
    """Import points from a file, at the times at which they were earned.

    A line is imported once, however often the file comes; equal lines are as many events. Points
    may be below zero, where there were enough. Bad lines are reported on standard error, left out,
    and make the exit code 1. A user id that is no UUID becomes the UUID v5 of its text in the
    source's namespace, which the summary shows; a time without an offset is UTC.
    """

    def plan() -> Plan:
        return Plan(
            source=source or Plan.source_of(file),
            columns=Columns.parse(columns),
            event_type=event_type,
            rounding=rounding,
            dry_run=dry_run,
            connections=connections,
        )

    importing.run(file, plan, database_url, as_json=as_json)

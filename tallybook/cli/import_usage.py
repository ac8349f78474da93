"""`tallybook import-usage`: models that were used before this book was kept, from a file."""

from __future__ import annotations

from typing import Annotated

import typer

from tallybook.cli import connection, importing
from tallybook.history import UsageColumns, UsagePlan


def import_usage(
    file: importing.File,
    columns: Annotated[
        str,
        typer.Option(
            help="Which column holds what: user, time, tokens, cost; model, provider, power_level,"
            " service, type, success, key, metadata if there are such.",
        ),
    ] = "user=user_id,time=created_at,model=model,tokens=tokens_used,cost=cost",
    source: importing.Source = "",
    connections: importing.Connections = 2,
    database_url: connection.DatabaseUrl = None,
    dry_run: connection.DryRun = False,
    as_json: connection.Json = False,
) -> None:
    """Import the usage of models from a file, at the times at which they were used.

    It counts in every statistic, and in the running month towards a user's monthly cap; nothing is
    charged for it again. A line is imported once, however often the file comes; equal lines are as
    many events. Bad lines are reported on standard error, left out, and make the exit code 1. A
    cost is in credits. A user id that is no UUID becomes the UUID v5 of its text in the source's
    namespace, which the summary shows; a time without an offset is UTC.
    """

    def plan() -> UsagePlan:
        return UsagePlan(
            source=source or UsagePlan.source_of(file),
            columns=UsageColumns.parse(columns),
            dry_run=dry_run,
            connections=connections,
        )

    importing.run(file, plan, database_url, as_json=as_json)

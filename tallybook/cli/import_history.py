"""`tallybook import`: points earned before this book was kept, from a file."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TimeRemainingColumn,
)

from tallybook.cli import connection
from tallybook.history import Columns, Fault, HistoryError, Plan, Report, Rounding, import_file

FAULTS_IN_JSON_MAX: Final = 1000
"""Standard error has all of them; the one JSON object is held in memory."""


def import_history(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with a header, or .ndjson; .gz of either.", exists=True, dir_okay=False
        ),
    ],
    columns: Annotated[
        str,
        typer.Option(
            help="Which column holds what: user, time, points; type, key if there are such.",
        ),
    ] = "user=user_id,time=event_time,points=points",
    source: Annotated[
        str,
        typer.Option(help="Where this comes from: the namespace of ids. Default: the file's name."),
    ] = "",
    event_type: Annotated[
        str, typer.Option(help="What kind of event a line is.")
    ] = "history_import",
    rounding: Annotated[
        Rounding, typer.Option(help="How decimals become points.")
    ] = Rounding.FLOOR,
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
    stderr = connection.stderr
    faults: list[Fault] = []

    def on_fault(fault: Fault) -> None:
        if len(faults) < FAULTS_IN_JSON_MAX:
            faults.append(fault)
        stderr.print(
            f"line {fault.line}: {fault.detail} ({fault.code})", markup=False, highlight=False
        )

    try:
        plan = Plan(
            source=source or Plan.source_of(file),
            columns=Columns.parse(columns),
            event_type=event_type,
            rounding=rounding,
            dry_run=dry_run,
        )
        url = connection.database_url(database_url)
        with _progress(stderr) as progress:
            task = progress.add_task("", total=file.stat().st_size) if progress else None
            report = import_file(
                url,
                file,
                plan,
                on_fault=on_fault,
                on_progress=lambda done: (
                    progress.update(task, completed=done) if progress and task is not None else None
                ),
            )
    except (HistoryError, OSError) as error:
        connection.fail(f"{file}: {error}", connection.UNUSABLE)
    except psycopg.Error as error:
        connection.fail(
            f"The database stopped this: {_said(error)}\n"
            "Nothing is half done: import the file again.",
            connection.UNUSABLE,
        )
    if as_json:
        connection.print_json(_json(report, faults))
    else:
        _summary(file, report)
    if report.bad:
        raise typer.Exit(connection.REFUSED)


def _said(error: psycopg.Error) -> str:
    said = filter(None, (error.diag.message_primary, error.diag.message_detail))
    return ". ".join(said) or str(error)


def _progress(console: Console) -> Any:
    """A bar of bytes where somebody watches, else nothing."""
    if not console.is_terminal:
        return nullcontext()
    return Progress(
        BarColumn(), DownloadColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip


def _json(report: Report, faults: list[Fault]) -> dict[str, Any]:
    return {
        **asdict(report),
        "lines_per_second": report.lines_per_second,
        "bad_lines": [fault._asdict() for fault in faults],
    }


def _summary(file: Path, report: Report) -> None:
    console = Console(soft_wrap=True, highlight=False)
    verb = "would be imported" if report.dry_run else "imported"
    console.print(
        f"{file.name}: {report.lines:,} lines = {report.imported:,} {verb}"
        f" + {report.known:,} known already + {report.bad:,} bad",
        markup=False,
    )
    console.print(
        f"{report.points:,} points; {report.seconds:.1f} s, {report.lines_per_second:,} lines/s"
    )
    console.print(f"users that are no UUID: uuid5({report.user_namespace}, their text)")

"""What `tallybook import` and `tallybook import-usage` share: progress, complaints, the account."""

from __future__ import annotations

from collections.abc import Callable
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
from tallybook.history import Fault, HistoryError, Import, Tally, import_file

FAULTS_IN_JSON_MAX: Final = 1000
"""Standard error has all of them; the one JSON object is held in memory."""

File = Annotated[
    Path,
    typer.Argument(
        help="CSV with a header, or .ndjson; .gz of either.", exists=True, dir_okay=False
    ),
]
Source = Annotated[
    str,
    typer.Option(help="Where this comes from: the namespace of ids. Default: the file's name."),
]
Connections = Annotated[
    int, typer.Option(min=1, max=4, help="How many work on it, each with its own users.")
]


def run(
    file: Path, make_plan: Callable[[], Import[Any]], database_url: str | None, *, as_json: bool
) -> None:
    """Import the file as planned, and tell of it.

    Exits with code 1 when lines were left out, with 2 when it cannot be done as asked.
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
        plan = make_plan()
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


def _json(report: Tally, faults: list[Fault]) -> dict[str, Any]:
    return {
        **asdict(report),
        "lines_per_second": report.lines_per_second,
        "bad_lines": [fault._asdict() for fault in faults],
    }


def _summary(file: Path, report: Tally) -> None:
    console = Console(soft_wrap=True, highlight=False)
    verb = "would be imported" if report.dry_run else "imported"
    console.print(
        f"{file.name}: {report.lines:,} lines = {report.imported:,} {verb}"
        f" + {report.known:,} known already + {report.bad:,} bad",
        markup=False,
    )
    console.print(f"{report.sums}; {report.seconds:.1f} s, {report.lines_per_second:,} lines/s")
    console.print(f"users that are no UUID: uuid5({report.user_namespace}, their text)")

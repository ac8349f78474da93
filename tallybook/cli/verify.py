"""`tallybook verify`: do the books agree?"""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from tallybook.cli.connection import (
    REFUSED,
    DatabaseUrl,
    Json,
    database_url,
    print_json,
    stderr,
    unreachable,
)
from tallybook.verify import ROWS_MAX, Finding
from tallybook.verify import verify as look


def verify(
    database: DatabaseUrl = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows to show of each kind.")] = ROWS_MAX,
    json: Json = False,
) -> None:
    """Check the invariants I1 to I6 and show every row that breaks one.

    Exit codes: 0 all hold, 1 some do not, 2 the database cannot be reached or holds no books.
    """
    url = database_url(database)
    try:
        with stderr.status("Comparing every event, transfer, balance and coupon"):
            findings = look(url, rows_max=rows)
    except psycopg.Error as error:
        unreachable(error)
    faults = sum(finding.faults for finding in findings)
    if json:
        print_json({"holds": faults == 0, "faults": faults, "invariants": findings})
    else:
        _print(findings)
    if faults:
        raise typer.Exit(REFUSED)


def _print(findings: list[Finding]) -> None:
    console = Console()
    table = Table("", "what must hold", "faults", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for finding in findings:
        style = "red" if finding.faults else "green"
        table.add_row(finding.invariant, finding.meaning, f"{finding.faults:,}", style=style)
    console.print(table)
    for finding in findings:
        if finding.faults:
            console.print(_faults(finding))


def _faults(finding: Finding) -> Table:
    table = Table("book", "subject", "expected", "actual", title_justify="left")
    table.title = f"{finding.invariant}: {len(finding.rows):,} of {finding.faults:,}"
    for row in finding.rows:
        book = str(row.book_id) if row.book_id else "all"
        table.add_row(book, row.subject, row.expected, row.actual)
    # Ids are there to be copied, so they are wrapped and never cut.
    for column in table.columns:
        column.overflow = "fold"
    return table

"""A page of rows as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tallybook import exact
from tallybook.http import Rendered

_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")

_FORMULA: Final = re.compile(r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that some spreadsheet reckons with: the wide signs, and after blanks, too."""


def as_csv(
    name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], next_cursor: str | None
) -> Rendered:
    """The rows under their columns' names. X-Next-Cursor says where to go on when there are more.

    `name` is what the file is called.
    """
    file = io.StringIO()
    lines = csv.writer(file)
    lines.writerow(columns)
    lines.writerows([_cell(row[column]) for column in columns] for row in rows)
    return Rendered(
        "text/csv; charset=utf-8", file.getvalue().encode(), attachment(f"{name}.csv", next_cursor)
    )


def attachment(file: str, next_cursor: str | None) -> dict[str, str]:
    """The headers of what is saved as a file."""
    headers = {"content-disposition": f'attachment; filename="{file}"'}
    return headers if next_cursor is None else {**headers, "x-next-cursor": next_cursor}


def _cell(value: Any) -> str:
    """A value as a cell of text. A spreadsheet must not take somebody's words for a formula."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return exact.encode(value).decode()
    if isinstance(value, str) and _FORMULA.match(value):
        # An amount is a text too, and below zero it is no formula.
        return value if _NUMBER.fullmatch(value) else "'" + value
    return str(value)

"""Tables for people: columns as wide as their longest word, so that an id is never cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from rich.bar import Bar
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

BAR_WIDTH: Final = 24


def show(
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str] | None = None,
    *,
    bar: str | None = None,
    empty: str = "None.",
) -> None:
    """Print rows: the columns' headings by their names, else all columns under their own.

    `bar` names a column of counts to draw beside the rows.
    """
    found = list(rows)
    if not found:
        print_line(empty)
        return
    headings = columns or {name: name.replace("_", " ") for name in found[0]}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    for name, heading in headings.items():
        values = [row.get(name) for row in found]
        words = [word for text in (heading, *map(written, values)) for word in text.split()]
        numbers = all(value is None or is_number(value) for value in values)
        table.add_column(
            Text(heading),
            justify="right" if numbers else "left",
            overflow="fold",
            min_width=max(map(cell_len, words), default=1),
        )
    most = max((row[bar] or 0 for row in found), default=0) if bar else 0
    if bar:
        table.add_column("")
    for row in found:
        cells: list[Text | Bar] = [Text(written(row.get(name))) for name in headings]
        if bar:
            cells.append(Bar(max(most, 1), 0, row[bar] or 0, width=BAR_WIDTH))
        table.add_row(*cells)
    # A terminal that is too narrow folds the lines itself.
    Console().print(table, crop=False)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one thing, a line a field, without those that it does not have."""
    known = {name: value for name, value in fields.items() if value not in (None, {}, [])}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        print_line(f"{name.replace('_', ' '):<{width}}  {written(value)}")


def print_line(text: str) -> None:
    """Print a line as it is, however long."""
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def written(value: object) -> str:
    """A value as a person reads it; a time to the second, in UTC."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case Decimal() | float():
            # A credit has six places, and a millionth of it is not nothing.
            return f"{value:.6f}".rstrip("0").rstrip(".")
        case int():
            return str(value)
        case dict() | list():
            return (
                msgspec.json.encode(value).decode()
                if isinstance(value, dict)
                else ", ".join(map(written, value))
            )
    return str(value)


def is_number(value: object) -> bool:
    """Whether a value stands on the right of its column."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)

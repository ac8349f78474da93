"""A page of rows as a file that a spreadsheet opens."""

from __future__ import annotations

import csv
import io

import pytest

from tallybook.spreadsheet import as_csv


def read(*texts: object) -> list[str]:
    """What the cells of one column hold, as a reader of RFC 4180 has them."""
    file = as_csv("notes", ["note"], [{"note": text} for text in texts], None)
    rows = csv.reader(io.StringIO(file.body.decode(), newline=""))
    return [note for (note,) in rows if note != "note"]


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1", "  =1+1", "\u00a0=1"),
        *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", "-1,5", "-5e3"),
    ],
    ids=ascii,
)
def test_what_begins_a_formula_is_a_text(text: str) -> None:
    assert read(text) == [f"'{text}"]


def test_everything_else_is_what_it_was() -> None:
    texts = ["-5", "-5.25", "5", "1=1", 'said "=1"', "a,b;c", "a\r\nb", "Zo\u00eb", " x"]
    assert read(*texts) == texts
    assert read({"a": ["=1"]}) == ['{"a":["=1"]}']

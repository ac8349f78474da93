"""One catalogue of refusals: what SQL and Python raise is in it, and docs/refusals.md shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tallybook.refusal import CORRIDOR_REFUSALS
from tallybook.schema import ROOT
from tests.conftest import Database

CATALOGUE = ROOT / "sql/00_foundation/refusals.sql"
DOCUMENT = ROOT / "docs/refusals.md"
SOURCES = [path for path in sorted((ROOT / "sql").glob("*/*.sql")) if path != CATALOGUE]

PREFACE = """\
# Refusals

Every refused request is answered with `application/problem+json` and one of these codes in the
member `code`. Decide by the code; the words may change. `"retryable": true` says that the same
request may succeed later.

Built from the table `internal.refusals`: `REWRITE_EXPECTED=1 make check` rewrites this file.

| Code | Status | Meaning | What to do |
|---|---|---|---|
"""

Row = tuple[str, int, str, str | None]


@pytest.fixture
def catalogue(database: Database) -> list[Row]:
    """Every entry, by status and code."""
    return (
        database.connect()
        .execute("select code, status, title, hint from internal.refusals order by status, code")
        .fetchall()
    )


# What a set-based core finds out about a request: a refusal's code, or that it is no refusal.
VERDICT = re.compile(r"case\n(?:(?!case\n).)*?end as verdict", re.DOTALL)
ACCEPTED = {"replayed", "known"}


def raised(path: Path) -> set[str]:
    """The codes that a file raises, returns or says that it does."""
    text = path.read_text()
    codes = set(re.findall(r"internal\.refus(?:e|al)\(\s*'(\w+)'", text))
    for verdict in VERDICT.findall(text):
        codes |= set(re.findall(r"then '(\w+)'", verdict)) - ACCEPTED
    codes |= set(re.findall(r"verdict := '(\w+)'", text)) - ACCEPTED
    for line in re.findall(r"^-- Refuses: ((?:.*\n--          )*.*)", text, re.MULTILINE):
        codes |= set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", line))
    return codes


def test_what_sql_raises_is_in_the_catalogue(catalogue: list[Row]) -> None:
    known = {row[0] for row in catalogue}
    unknown = {path.name: codes for path in SOURCES if (codes := raised(path) - known)}
    assert unknown == {}


def test_what_is_in_the_catalogue_is_raised_somewhere(catalogue: list[Row]) -> None:
    everywhere = set(CORRIDOR_REFUSALS).union(*(raised(path) for path in SOURCES))
    assert {row[0] for row in catalogue} - everywhere == set()


def test_the_corridor_and_the_catalogue_agree(catalogue: list[Row]) -> None:
    statuses = {code: status for code, status, _, _ in catalogue}
    assert {code: statuses.get(code) for code in CORRIDOR_REFUSALS} == CORRIDOR_REFUSALS


def test_a_hint_is_a_sentence_and_a_title_is_not(catalogue: list[Row]) -> None:
    for code, _, title, hint in catalogue:
        assert title[0].isupper(), code
        assert not title.endswith("."), code
        assert hint is None or (hint[0].isupper() and hint.endswith(".")), code


def test_the_document_shows_the_catalogue(
    catalogue: list[Row], compare_with: Callable[[Path, str], None]
) -> None:
    rows = [
        f"| `{code}` | {status} | {title} | {hint or ''} |\n"
        for code, status, title, hint in catalogue
    ]
    compare_with(DOCUMENT, PREFACE + "".join(rows))

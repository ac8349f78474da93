"""docs/attestation.md, read by its headings and tables."""

from __future__ import annotations

import re

from tallybook.schema import ROOT

TEXT = (ROOT / "docs/attestation.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """What stands under this heading, without what stands under a deeper or later one."""
    found = re.search(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", TEXT, re.MULTILINE | re.DOTALL
    )
    assert found, f"there is no heading {heading!r}"
    return found[1]


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of all tables under a heading, without their heads; code loses its backticks."""
    tables = re.findall(r"(?:^\|.*\|\n)+", section(heading), re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [
        tuple(cell.strip().replace("`", "") for cell in line[1:-1].split("|")) for line in lines
    ]


def names(heading: str) -> list[str]:
    """The first cell of every row under a heading."""
    return [row[0] for row in rows(heading)]


def code(language: str) -> str:
    """The first block of code in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"there is no {language}"
    return found[1]

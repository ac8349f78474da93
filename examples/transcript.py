"""A SQL script run by psql, and what it must print: `examples/NAME.sql` and `examples/NAME.out`.

The clock stands still and session times are UTC, so that the output is the same every time.
"""

from __future__ import annotations

import difflib
import os
import subprocess
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from tallybook.local.binaries import Binaries

FOLDER: Final = Path(__file__).resolve().parent
NOW: Final = "2026-03-02 09:00+00"


def scripts() -> list[Path]:
    """Every example that is a script, in the order of the names."""
    return sorted(FOLDER.glob("*.sql"))


def check(dsn: str, script: Path, *, update: bool = False) -> str:
    """Run `script` in the fresh database at `dsn`; return how its output differs from what is
    committed, as a unified diff, or '' when it does not. With `update` it is committed anew."""
    printed = run(dsn, script)
    expected = script.with_suffix(".out")
    if update:
        expected.write_text(printed)
        return ""
    kept = expected.read_text() if expected.exists() else ""
    lines = difflib.unified_diff(
        kept.splitlines(), printed.splitlines(), expected.name, "printed", lineterm=""
    )
    return "\n".join(lines)


def run(dsn: str, script: Path) -> str:
    """What psql prints for `script`, the statements included."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            sql.SQL(
                "create or replace function internal.clock() returns timestamptz"
                " language plpgsql stable set search_path = ''"
                " as $$ begin return {}::timestamptz; end $$"
            ).format(sql.Literal(NOW))
        )
    # Settings of the caller's shell would change what psql does.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [Binaries.find().program("psql"), "-X", "-a", "-q", "-P", "pager=off", dsn],
        input=script.read_text(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        env=clean | {"PGTZ": "UTC", "PGDATESTYLE": "ISO", "LC_ALL": "C.UTF-8"},
    )
    return done.stdout

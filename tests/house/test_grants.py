"""Who may do what: `grants.expected` says it, and the catalog must say the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from tests.conftest import Database

EXPECTED = Path(__file__).with_name("grants.expected")

HEADING = """\
# Every schema, relation and routine of ours, and what each role may do with it, as owner too.
# What is not listed may not be done.
# `REWRITE_EXPECTED=1 make check` writes this file; read the diff before you commit it.
"""

QUERY = Path(__file__).with_name("grants.sql").read_bytes()


def test_grants_are_as_written(
    database: Database, compare_with: Callable[[Path, str], None]
) -> None:
    rows = database.connect().execute(QUERY).fetchall()
    lines = []
    for thing, rights in groupby(rows, lambda row: row[0]):
        lines += ["", thing, *(f"    {role:<22}{names}" for _, role, names in rights)]
    compare_with(EXPECTED, HEADING + "\n".join(lines) + "\n")


def test_no_client_writes_a_table(database: Database) -> None:
    """Whatever the expected file says: clients write through procedures only."""
    rows = database.connect().execute(QUERY).fetchall()
    writing = [
        (thing, role, names)
        for thing, role, names in rows
        if role in {"anon", "authenticated"}
        and (thing.startswith(("table", "view", "column")) and set(names.split()) - {"select"})
    ]
    assert writing == []


def test_anon_sees_no_table(database: Database) -> None:
    rows = database.connect().execute(QUERY).fetchall()
    seen = [
        thing
        for thing, role, _ in rows
        if role == "anon" and thing.startswith(("table", "view", "column"))
    ]
    assert seen == []


def test_clients_execute_what_policies_need_and_nothing_else(database: Database) -> None:
    rows = database.connect().execute(QUERY).fetchall()
    executable = {
        thing
        for thing, role, _ in rows
        if role in {"anon", "authenticated"} and thing.startswith("routine")
    }
    assert executable == {
        "routine internal.caller_id()",
        "routine internal.member_tenants()",
        "routine internal.member_departments()",
        "routine internal.managed_tenants()",
    }


def test_the_functions_login_reads_and_writes_nothing_itself(database: Database) -> None:
    rows = database.connect().execute(QUERY).fetchall()
    touched = [
        thing
        for thing, role, _ in rows
        if role == "tallybook_functions" and not thing.startswith(("schema", "routine"))
    ]
    assert touched == []

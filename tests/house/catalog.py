"""Everything a database's catalog says of our schemas, as text to compare two databases by.

Nothing here depends on the order in which objects were made: no object id, no physical position.
The questions are in `catalog.sql`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

HERE = Path(__file__).parent

# `auth` and `extensions` are Supabase's, and only stood in for.
SCHEMAS = ["public", "ledger", "internal"]

Connection = psycopg.Connection[Any]


TABLES = (
    "select c.oid::regclass::text from pg_class as c"
    " join pg_namespace as n on n.oid = c.relnamespace"
    " where c.relkind = 'r' and n.nspname = any (%s)"
)


def dump(connection: Connection) -> dict[str, str]:
    """Kind and name of every object -> everything about it; every table's rows among them."""
    with connection.transaction(force_rollback=True):
        connection.execute("set local search_path = pg_catalog")
        connection.execute((HERE / "catalog_rights.sql").read_bytes())
        rows = connection.execute((HERE / "catalog.sql").read_bytes()).fetchall()
        found = {f"{kind} {name}": about for kind, name, about in rows}
        assert len(found) == len(rows)
        for (table,) in connection.execute(TABLES, [SCHEMAS]).fetchall():
            found[f"rows of {table}"] = "\n".join(contents(connection, table))
    return found


def contents(connection: Connection, table: str) -> list[str]:
    """A table's rows without the times at which they were written."""
    query = f"select (to_jsonb(t) - array['created_at', 'updated_at'])::text from {table} as t"
    return sorted(row for (row,) in connection.execute(query.encode()).fetchall())


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """What differs, in words that tell where to look; empty when nothing does."""
    return [
        f"{name}\n  one:   {one.get(name)}\n  other: {other.get(name)}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]

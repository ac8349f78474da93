"""What the house tests share: empty databases, and expected files that can be rewritten.

`REWRITE_EXPECTED=1 make check` writes the expected files anew; a person then reads the diff.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tallybook.local.postgres import EmbeddedPostgres

_numbers = count(1)


@contextmanager
def empty_database(postgres: EmbeddedPostgres, owner: str = "postgres") -> Iterator[str]:
    """The name of a new database that holds nothing, dropped afterwards."""
    name = f"house_{next(_numbers)}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} owner {}").format(
                sql.Identifier(name), sql.Identifier(owner)
            )
        )
        try:
            yield name
        finally:
            drop = sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
            connection.execute(drop)


@pytest.fixture
def compare_with() -> Callable[[Path, str], None]:
    """Compares a text with a committed file, or writes the file when asked to."""

    def compare(path: Path, text: str) -> None:
        if os.environ.get("REWRITE_EXPECTED"):
            path.write_text(text)
        assert path.read_text().splitlines() == text.splitlines(), (
            f"{path.name} is not what the schema says; REWRITE_EXPECTED=1 rewrites it"
        )

    return compare

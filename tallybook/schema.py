"""The schema as it is written: ``sql/`` (the rooms), then ``policies/`` (the keys), in the order of their names."""

from collections.abc import Iterator
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent


def files(root: Path = ROOT) -> Iterator[Path]:
    """Yield every schema file in the order in which it is applied. There is no manifest to forget."""
    yield from sorted(root.glob("sql/*/*.sql"))
    yield from sorted(root.glob("policies/*.sql"))


def apply(dsn: str, root: Path = ROOT) -> None:
    """Apply the whole schema to an empty database, in one transaction.

    Raises psycopg.Error, with the file's name as a note, when a file does not apply; nothing is left behind then.
    """
    with psycopg.connect(dsn) as connection:
        for path in files(root):
            try:
                connection.execute(path.read_bytes())
            except psycopg.Error as error:
                error.add_note(f"in {path.relative_to(root)}")
                raise

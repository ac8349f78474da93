"""The schema as it is written: ``sql/`` (the rooms), then ``policies/`` (the keys), by name.

`build` makes of it what ships: the migration that the Supabase CLI and `tallybook migrate` apply.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg

ROOT = Path(__file__).resolve().parent.parent

MIGRATIONS: Final = Path("supabase/migrations")
RELEASED: Final = Path("supabase/released.json")

# The migration that is being written. Once it is released, a new one takes its place here and is
# written by hand: a change to a living database is not the list of all objects.
UNRELEASED: Final = "20250725000001_points_and_coupons.sql"

_PREFACE: Final = """\
-- Tallybook: points and coupons.
-- Built by `tallybook migrate build` from sql/ and policies/; change it there.
"""


class ReleasedMigrationChanged(Exception):
    """A migration that people have applied is about to change, or has."""


def files(root: Path = ROOT) -> Iterator[Path]:
    """Yield every schema file in the order in which it is applied: no manifest to forget."""
    yield from sorted(root.glob("sql/*/*.sql"))
    yield from sorted(root.glob("policies/*.sql"))


def apply(dsn: str, root: Path = ROOT) -> None:
    """Apply the whole schema to an empty database, in one transaction.

    Raises psycopg.Error, with the file's name as a note, when a file does not apply; nothing is
    left behind then.
    """
    with psycopg.connect(dsn) as connection:
        for path in files(root):
            try:
                connection.execute(path.read_bytes())
            except psycopg.Error as error:
                error.add_note(f"in {path.relative_to(root)}")
                raise


def build(root: Path = ROOT) -> dict[Path, str]:
    """The unreleased migration: its path below `root` and its text. Empty when all are released.

    Raises ReleasedMigrationChanged when a released one is not what it was.
    """
    released = released_hashes(root)
    for name, expected in released.items():
        if checksum((root / MIGRATIONS / name).read_bytes()) != expected:
            raise ReleasedMigrationChanged(f"{name} is released: a change is a new migration")
    if UNRELEASED in released:
        return {}
    sections = (
        f"\n-- {path.relative_to(root)}\n\n{path.read_text().strip()}\n" for path in files(root)
    )
    return {MIGRATIONS / UNRELEASED: _PREFACE + "".join(sections)}


def migrations(root: Path = ROOT) -> list[Path]:
    """The migrations in the order in which they are applied: as the Supabase CLI finds them."""
    return sorted((root / MIGRATIONS).glob("[0-9]*_*.sql"))


def released_hashes(root: Path = ROOT) -> dict[str, str]:
    """File name -> SHA-256 of every migration that a released version brought."""
    hashes: dict[str, str] = json.loads((root / RELEASED).read_text())
    return hashes


def checksum(content: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()

"""Which database an operator's command works on, and how every command takes and says things."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import msgspec
import psycopg
import typer
from rich.console import Console

from tallybook.cli import project
from tallybook.local.cluster import Postmaster, local_secret

REFUSED = 1
"""Exit code: refused, or faults found."""
UNUSABLE = 2
"""Exit code: wrong usage or configuration, or the database cannot be reached."""

DATABASE_URLS = ("DATABASE_URL", "SUPABASE_DB_URL")
"""The variables that name the database, the first that is set."""

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="The database's URL; else DATABASE_URL, else the local database.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]

_JSON = msgspec.json.Encoder(decimal_format="number", enc_hook=str)

stderr = Console(stderr=True, soft_wrap=True)
"""For progress and complaints; what a command is asked for goes to standard output."""


def database_url(option: str | None = None, *, role: str = "postgres") -> str:
    """The URL to work on: the option, else DATABASE_URL, else the local database of `make dev`.

    `role` is whom to log in as locally. Exits with code 2, saying so, when there is none.
    """
    chosen = next(filter(None, (option, *map(os.environ.get, DATABASE_URLS))), None)
    return chosen or local_database_url(role)


def local_database_url(user: str = "postgres") -> str:
    """The running local database's URL over TCP. Exits with code 2 when it does not run."""
    data = project.data_folder().resolve()
    found = Postmaster.read(data)
    if found is None or not found.tcp:
        fail(
            "There is no database to work on: give --database-url, set DATABASE_URL, "
            "or start the local one with `make dev`.",
            UNUSABLE,
        )
    return f"postgresql://{user}:{local_secret(data)}@127.0.0.1:{found.port}/postgres"


def print_json(value: Any) -> None:
    """One JSON object, alone on standard output."""
    sys.stdout.write(msgspec.json.format(_JSON.encode(value), indent=2).decode() + "\n")


def fail(message: str, code: int = REFUSED) -> NoReturn:
    """Say why on standard error, and exit with `code`."""
    stderr.print(message, style="red", markup=False, highlight=False)
    raise typer.Exit(code)


def unreachable(error: psycopg.Error) -> NoReturn:
    """Exit with code 2: the database is away, refuses us, or is none of ours."""
    said = str(error).strip() or type(error).__name__
    fail(f"The database cannot be used: {said}", UNUSABLE)

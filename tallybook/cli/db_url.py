"""`tallybook db-url`: the local database's address, for psql and every other client."""

from __future__ import annotations

from typing import Annotated

import typer

from tallybook.cli.connection import Json, local_database_url, print_json


def db_url(
    role: Annotated[str, typer.Option(help="Whom to log in as.")] = "postgres",
    json: Json = False,
) -> None:
    """Print the URL of the running local database."""
    url = local_database_url(role)
    if json:
        print_json({"database_url": url})
    else:
        typer.echo(url)

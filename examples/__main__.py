"""Runs every example on a throw-away Postgres: `make examples`, `python -m examples ledger cdnow`.

Exit codes: 0 everything came out as it should; 1 something did not; 2 there is no such example.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql
from rich.console import Console

from examples import transcript
from examples.cdnow import run as cdnow
from tallybook import logs, schema
from tallybook.local.postgres import EmbeddedPostgres, enable_logins

TEMPLATE = "template_of_examples"
stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all, if none.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Write the .out files anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the examples; a script whose output is not the committed one is a failure."""
    scripts = {script.stem: script for script in transcript.scripts()}
    chosen = names or [*scripts, "cdnow"]
    if unknown := set(chosen) - {*scripts, "cdnow"}:
        stderr.print(f"There is no example {', '.join(sorted(unknown))}.", markup=False)
        raise typer.Exit(2)

    # A log line for every request would bury the result.
    logs.configure(level="error")
    told: dict[str, Any] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="tallybook-examples-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            _database(server, TEMPLATE)
            schema.apply(server.dsn(TEMPLATE))
            enable_logins(server.dsn())
            for name in chosen:
                _database(server, name, TEMPLATE)
                if name == "cdnow":
                    outcome = cdnow.run(lambda user: server.dsn("cdnow", user))
                    told[name] = outcome.as_json()
                    failed |= not outcome.as_it_should
                    if not as_json:
                        cdnow.show(outcome, stdout)
                    continue
                difference = transcript.check(server.dsn(name), scripts[name], update=update)
                told[name] = {"as_it_should": not difference}
                failed |= bool(difference)
                if difference:
                    stderr.print(difference, markup=False)
                if not as_json:
                    verdict = "differs from" if difference else "written to" if update else "as in"
                    stdout.print(f"{name}.sql: {verdict} {name}.out", markup=False)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    if failed:
        raise typer.Exit(1)


def _database(server: EmbeddedPostgres, name: str, template: str = "template1") -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )


if __name__ == "__main__":
    typer.run(main)

"""`tallybook migrate`: apply the migrations, say where a database stands, build what ships."""

from __future__ import annotations

from typing import Annotated, NoReturn

import psycopg
import typer

from tallybook import migrate, schema
from tallybook.cli import project
from tallybook.cli.connection import (
    UNUSABLE,
    DatabaseUrl,
    DryRun,
    Json,
    database_url,
    fail,
    print_json,
)

app = typer.Typer(help="Apply the database's migrations, in the Supabase CLI's own history.")


@app.command()
def up(
    url: DatabaseUrl = None,
    required: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            help="A table or index that must be there in the end; else nothing is applied.",
        ),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Apply every pending migration, each in its own transaction; with --require, all in one."""
    try:
        names = migrate.up(
            database_url(url), dry_run=dry_run, required=required or (), root=project.root()
        )
    except migrate.MigrationRefused as refused:
        fail(f"Nothing was applied. {refused}.")
    except psycopg.Error as error:
        _fail_for(error)
    if json:
        print_json({"dry_run": dry_run, "applied": names})
    elif not names:
        typer.echo("The database is up to date.")
    else:
        for name in names:
            typer.echo(f"{'would apply' if dry_run else 'applied'} {name}")


@app.command()
def status(url: DatabaseUrl = None, json: Json = False) -> None:
    """Say of every migration whether it is applied; exit code 1 unless all are, unchanged."""
    try:
        found = migrate.status(database_url(url), root=project.root())
    except psycopg.Error as error:
        _fail_for(error)
    if json:
        print_json({"migrations": found})
    else:
        for migration in found:
            typer.echo(f"{migration.state:<18}{migration.name}")
    if any(migration.state != "applied" for migration in found):
        raise typer.Exit(1)


@app.command()
def build(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 when a file would change.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Write supabase/migrations from sql/ and policies/."""
    root = project.root()
    try:
        built = schema.build(root)
    except schema.ReleasedMigrationChanged as changed:
        fail(f"{changed}.")
    stale = {
        path: text
        for path, text in built.items()
        if not (root / path).exists() or (root / path).read_text() != text
    }
    if not (check or dry_run):
        for path, text in stale.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    if json:
        print_json({"dry_run": check or dry_run, "changed": [str(path) for path in stale]})
    for path in stale:
        typer.echo(f"{'out of date:' if check or dry_run else 'wrote'} {path}", err=json)
    if check and stale:
        raise typer.Exit(1)


def _fail_for(error: psycopg.Error) -> NoReturn:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    connected = error.sqlstate is not None
    fail(f"{error}{notes}", UNUSABLE if not connected else 1)

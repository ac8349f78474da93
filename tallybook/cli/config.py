"""`tallybook config check`: would a server start with this environment?"""

from __future__ import annotations

import dataclasses

import typer
from rich.console import Console
from rich.table import Table

from tallybook.cli.connection import UNUSABLE, Json, fail, print_json
from tallybook.cli.serve import serving_settings
from tallybook.settings import ConfigurationError, Settings

app = typer.Typer(no_args_is_help=True, help="The environment's variables.")


@app.callback()
def config() -> None:
    """The environment's variables."""


@app.command()
def check(json: Json = False) -> None:
    """Say which variables are set, never to what. Exit code 2 when `serve` would not start."""
    try:
        settings = serving_settings()
    except ConfigurationError as error:
        if json:
            print_json({"usable": False, "fault": str(error)})
            raise typer.Exit(UNUSABLE) from None
        fail(str(error), UNUSABLE)
    found = _states(settings)
    if json:
        print_json({"usable": True, "set": found})
        return
    table = Table("variable", "", box=None, pad_edge=False)
    for name, is_set in found.items():
        table.add_row(name, "set" if is_set else "-", style="" if is_set else "dim")
    Console().print(table)


def _states(settings: Settings) -> dict[str, bool]:
    """Each setting, by the first name it has in the environment, and whether it is not default."""
    return {
        field.metadata["variable"].names[0]: getattr(settings, field.name) != field.default
        for field in dataclasses.fields(settings)
    }

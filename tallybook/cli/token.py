"""`tallybook token`: a token that the local gateway accepts, for any user and role."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from tallybook.cli import project
from tallybook.cli.connection import UNUSABLE, Json, fail, print_json
from tallybook.local.signing import LocalKeys

ROLES = ("authenticated", "service_role", "anon")


def token(
    sub: Annotated[UUID | None, typer.Option(help="The user's id.", show_default=False)] = None,
    role: Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")] = ROLES[0],
    seconds: Annotated[int, typer.Option(min=1, help="How long it is good.")] = 3600,
    json: Json = False,
) -> None:
    """Print a token signed with the local key. It is worth nothing anywhere else."""
    if role not in ROLES:
        fail(f"--role must be one of {', '.join(ROLES)}.", UNUSABLE)
    if role == "authenticated" and sub is None:
        fail("A user's token needs --sub, the user's id.", UNUSABLE)
    keys = LocalKeys.load_or_create(project.local_folder())
    signed = keys.token(sub, role=role, seconds=seconds)
    if json:
        print_json({"token": signed, "sub": sub, "role": role, "expires_in_seconds": seconds})
    else:
        typer.echo(signed)

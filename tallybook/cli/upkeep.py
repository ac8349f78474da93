"""`tallybook upkeep`: what the worker does beside validating, once."""

from __future__ import annotations

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, writing
from tallybook.cli.tables import show
from tallybook.worker import UPKEEP


def upkeep(
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Call each upkeep procedure once: what has expired ends, what is old is forgotten."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        done = [
            {"procedure": procedure, "count": operator.call(procedure, limit=limit)[counted]}
            for procedure, limit, counted in UPKEEP
        ]
    if json:
        print_json({"dry_run": dry_run, "upkeep": done})
    else:
        show(done)

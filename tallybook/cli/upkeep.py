"""`tallybook upkeep`: what the worker does beside validating, once."""

from __future__ import annotations

from typing import Any

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, Operator, writing
from tallybook.cli.tables import show
from tallybook.worker import UPKEEP, Upkeep


def upkeep(
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Call each upkeep procedure once: what has expired ends, what is old is forgotten."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        done = [_once(operator, upkeep) for upkeep in UPKEEP]
    if json:
        print_json({"dry_run": dry_run, "upkeep": done})
    else:
        show(done)


def _once(operator: Operator, upkeep: Upkeep) -> dict[str, Any]:
    answer = operator.call(upkeep.procedure, limit=upkeep.limit)
    return {
        "procedure": upkeep.procedure,
        "count": sum(answer[member] for member in upkeep.counting),
    }

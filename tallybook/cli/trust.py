"""`tallybook trust`: the rules by which events are believed, and the thresholds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from psycopg.types.json import Jsonb

from tallybook.cli import trust_list
from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, Operator, Reason, reading, told, writing
from tallybook.cli.setting import NONE, Threshold, change_row, changes
from tallybook.cli.tables import print_line, show

app = typer.Typer(no_args_is_help=True, help="How far events are believed.")


class Mode(StrEnum):
    """What becomes of a rule that hits: nothing, a note, or a part of the score."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


@app.command()
def rules(database: DatabaseUrl = None, json: Json = False) -> None:
    """Show the rules and the thresholds."""
    with reading(database, json=json) as operator:
        policies = operator.rows("select p.* from public.trust_policies as p order by 1")
        found = operator.rows("select r.* from public.trust_rules as r order by r.feature, 1")
    if json:
        print_json({"policies": policies, "rules": found})
        return
    for policy in policies:
        print_line(
            f"{policy['policy_id']}{'' if policy['is_active'] else ' (not active)'}:"
            f" begins with {policy['base_score']}, counts from {policy['validate_at']},"
            f" a person looks from {policy['review_at']}, below it is rejected"
        )
    print_line("")
    show(
        [row | {"hits": bounds(row["parameters"])} for row in found],
        {
            "rule_id": "rule",
            "mode": "mode",
            "weight": "weight",
            "feature": "feature",
            "hits": "hits",
        },
    )


@app.command("set-rule")
def set_rule(
    rule: Annotated[str, typer.Argument(show_default=False)],
    reason: Reason,
    weight: Annotated[int | None, typer.Option(show_default=False)] = None,
    mode: Annotated[Mode | None, typer.Option(show_default=False)] = None,
    below: Threshold = None,
    at_least: Threshold = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change a rule, from the next event on. `tallybook backtest` says first whom it touches."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        parameters = changed_parameters(operator, rule, below, at_least)
        answer = change_row(
            operator,
            "trust_rules",
            ("rule_id", rule),
            {
                "weight": weight,
                "mode": mode and str(mode),
                "parameters": None if parameters is None else Jsonb(parameters),
            },
            reason,
            missing=("rule_not_found", f"rule: there is no {rule}"),
        )
    told(answer, f"{rule}: {changes(answer)}", json=json, dry_run=dry_run)


@app.command("set-policy")
def set_policy(
    reason: Reason,
    validate_at: Annotated[int | None, typer.Option(help="From here on it counts.")] = None,
    review_at: Annotated[int | None, typer.Option(help="From here on a person looks.")] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change the active policy's thresholds, from the next event on."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = change_row(
            operator,
            "trust_policies",
            ("is_active", True),
            {"validate_at": validate_at, "review_at": review_at},
            reason,
            missing=("policy_not_found", "There is no active policy."),
        )
    words = f"{answer['after']['policy_id']}: {changes(answer)}"
    told(answer, words, json=json, dry_run=dry_run)


app.add_typer(trust_list.app, name="list")


def changed_parameters(
    operator: Operator, rule: str, below: Any, at_least: Any
) -> dict[str, Any] | None:
    """A rule's parameters with these changes; None when there are none."""
    given = {"below": below, "at_least": at_least}
    if all(value is None for value in given.values()):
        return None
    found = operator.rows(
        "select r.parameters from public.trust_rules as r where r.rule_id = %s", (rule,)
    )
    parameters: dict[str, Any] = found[0]["parameters"] if found else {}
    for name, value in given.items():
        if value is NONE:
            parameters.pop(name, None)
        elif value is not None:
            parameters[name] = int(value) if value == int(value) else value
    return parameters


def bounds(parameters: dict[str, Any]) -> str:
    """When a rule hits, for people."""
    words = {"at_least": "at least", "below": "below"}
    return ", ".join(
        f"{said} {parameters[name]}" for name, said in words.items() if name in parameters
    )

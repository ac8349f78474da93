"""`tallybook backtest`: who would be believed under other thresholds or rules. Touches nothing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from psycopg.types.json import Jsonb

from tallybook.cli.connection import UNUSABLE, DatabaseUrl, Json, fail, print_json
from tallybook.cli.operator import Operator, reading
from tallybook.cli.setting import Threshold
from tallybook.cli.tables import print_line, show
from tallybook.cli.times import Since
from tallybook.cli.trust import Mode, changed_parameters

# A rule's option in `trust set-rule`, by the member of a changed rule.
_OPTIONS = {"weight": "--weight", "mode": "--mode"}
_BOUNDS = {"below": "--below", "at_least": "--at-least"}


def backtest(
    validate_at: Annotated[int | None, typer.Option(help="From here on it counts.")] = None,
    review_at: Annotated[int | None, typer.Option(help="From here on a person looks.")] = None,
    rule: Annotated[str | None, typer.Option(help="A rule to change.")] = None,
    weight: Annotated[int | None, typer.Option(help="The rule's weight.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="The rule's mode.")] = None,
    below: Threshold = None,
    at_least: Threshold = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help='Several: [{"rule_id": …, "weight": …, "mode": …, "parameters": {…}}].',
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    since: Since = None,
    until: Since = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Judge past events again, and print who would change, by event type, with points.

    Asks the very judge that decides, with what was known of each event when it was judged.
    """
    change = {"weight": weight, "mode": mode and str(mode), "below": below, "at_least": at_least}
    if rule is None and any(value is not None for value in change.values()):
        fail("Say which --rule to change.", UNUSABLE)
    if rule is not None and (rules or all(value is None for value in change.values())):
        fail("Say what to change of the --rule, or give --rules.", UNUSABLE)
    with reading(database, json=json) as operator:
        changed = _read(rules) if rules else _one(operator, rule, weight, mode, below, at_least)
        answer = operator.call(
            "backtest_trust",
            validate_at=validate_at,
            review_at=review_at,
            rules=Jsonb(changed) if changed else None,
            since=since and operator.moment(since),
            until=until and operator.moment(until),
        )
    commands = list(_commands(validate_at, review_at, changed))
    if json:
        print_json({**answer, "commands": commands})
    else:
        _print(answer, commands)


def _one(
    operator: Operator,
    rule: str | None,
    weight: int | None,
    mode: Mode | None,
    below: Any,
    at_least: Any,
) -> list[dict[str, Any]]:
    if rule is None:
        return []
    change = {
        "rule_id": rule,
        "weight": weight,
        "mode": mode and str(mode),
        "parameters": changed_parameters(operator, rule, below, at_least),
    }
    return [{name: value for name, value in change.items() if value is not None}]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except (OSError, msgspec.DecodeError) as error:
        fail(f"{path}: {error}", UNUSABLE)


def _print(answer: dict[str, Any], commands: list[str]) -> None:
    print_line(f"{answer['changed']} of {answer['assessed']} events would be decided otherwise:")
    show(
        answer["by_event_type"],
        {
            "event_type": "event type",
            "from": "from",
            "to": "to",
            "events": "events",
            "users": "users",
            "points": "points",
        },
        empty="none",
    )
    print_line(f"Points that count: {answer['points_change']:+d}")
    if commands:
        print_line("Nothing was changed. To make it so:")
    for command in commands:
        print_line(f"  {command}")


def _commands(
    validate_at: int | None, review_at: int | None, changed: list[dict[str, Any]]
) -> list[str]:
    """What would make it so, one command for each row to change."""
    commands = []
    thresholds = [
        *([] if validate_at is None else ["--validate-at", str(validate_at)]),
        *([] if review_at is None else ["--review-at", str(review_at)]),
    ]
    if thresholds:
        commands.append(["set-policy", *thresholds])
    for rule in changed:
        options = [
            text for name, option in _OPTIONS.items() if name in rule
            for text in (option, str(rule[name]))
        ]  # fmt: skip
        if "parameters" in rule:
            for name, option in _BOUNDS.items():
                options += [option, str(rule["parameters"].get(name, "none"))]
        commands.append(["set-rule", rule["rule_id"], *options])
    return [f"{shlex.join(['tallybook', 'trust', *command])} --reason …" for command in commands]

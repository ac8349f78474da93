"""`tallybook backtest` tells who would change, and the command it ends with makes it so."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.world import NOW, World


@pytest.fixture
def decided(world: World) -> None:
    """Ten events: one in the middle scores 50 and waits, the others count."""
    world.freeze(NOW)
    for _ in range(9):
        world.submit(world.user())
    last = world.user()
    world.submit(last, at=NOW - timedelta(hours=1))
    world.submit(last, at=NOW - timedelta(hours=1) + timedelta(seconds=5))
    world.validate()


def everything(world: World) -> object:
    """All that a backtest must leave alone."""
    return [
        world.rows(f"select to_jsonb(t) as row from {table} as t order by 1")
        for table in ("points_events", "trust_assessments", "trust_policies", "trust_rules")
    ]


def test_a_lower_threshold_tells_who_would_count(operate: Run, world: World, decided: None) -> None:
    before = everything(world)
    told = operate("backtest", "--validate-at", "50", "--json").json
    assert (told["assessed"], told["changed"], told["points_change"]) == (11, 1, 10)
    (change,) = told["by_event_type"]
    assert (change["event_type"], change["from"], change["to"], change["events"]) == (
        "habit_completion", "pending_review", "validated", 1,
    )  # fmt: skip
    assert everything(world) == before
    assert world.count("audit_log") == 0
    assert operate("backtest", "--validate-at", "50").code == 0


def test_its_last_line_makes_it_so(operate: Run, world: World, decided: None) -> None:
    for question in (
        ("--validate-at", "50"),
        ("--rule", "spacing_under_ten_seconds", "--weight", "-1", "--below", "20"),
        ("--rule", "known_device", "--mode", "off"),
    ):
        (command,) = operate("backtest", *question, "--json").json["commands"]
        program, *arguments = shlex.split(command.removesuffix("…"))
        assert program == "tallybook"
        assert operate(*arguments, "The backtest was fine").code == 0
    assert world.value("select validate_at from trust_policies where is_active") == 50
    (rule,) = world.rows(
        "select weight, parameters from trust_rules where rule_id = 'spacing_under_ten_seconds'"
    )
    assert (rule["weight"], rule["parameters"]) == (-1, {"below": 20})


def test_several_rules_come_from_a_file(operate: Run, decided: None, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([{"rule_id": "spacing_under_ten_seconds", "mode": "off"}]))
    told = operate("backtest", "--rules", str(path), "--json").json
    assert (told["changed"], len(told["commands"])) == (1, 1)
    path.write_text("{")
    assert operate("backtest", "--rules", str(path)).code == 2


def test_the_span_is_of_judgements(operate: Run, world: World, decided: None) -> None:
    world.pass_time(timedelta(days=2))
    for since, assessed in (("24h", 0), ("3d", 11), (NOW.isoformat(), 11)):
        assert operate("backtest", "--since", since, "--json").json["assessed"] == assessed
    assert operate("backtest", "--until", "3d", "--json").json["assessed"] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--validate-at", "20"), 1),
        (("--rule", "no_such_rule", "--weight", "1"), 1),
        (("--rule", "known_device"), 2),
        (("--weight", "5"), 2),
        (("--since", "soon"), 2),
    ],
)
def test_what_is_no_question(operate: Run, arguments: tuple[str, ...], code: int) -> None:
    assert operate("backtest", *arguments).code == code

"""What all of the operator's commands have in common: who acts, what is refused, what waits."""

from __future__ import annotations

import getpass

import pytest
import typer

from tallybook.cli import operator as operators
from tallybook.cli.operator import reading
from tests.cli.conftest import Run
from tests.world import World

SET = ("points", "set-rule", "workout", "--points", "30", "--reason", "x")


def actors(world: World) -> set[str]:
    return {row["actor"] for row in world.rows("select actor from audit_log")}


def test_who_acts_is_told_else_the_account(operate: Run, world: World) -> None:
    assert operate(*SET, env={"TALLYBOOK_ACTOR": ""}).code == 0
    assert actors(world) == {getpass.getuser()}
    assert operate(*SET, "--actor", "eve@example.org").code == 0
    assert actors(world) == {getpass.getuser(), "eve@example.org"}


def test_a_container_without_names_has_a_number(
    operate: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert operate(*SET, env={"TALLYBOOK_ACTOR": ""}).code == 0
    (actor,) = actors(world)
    assert actor.startswith("uid ")


def test_a_reading_session_writes_nothing(world: World) -> None:
    user = world.user()
    with (
        pytest.raises(typer.Exit) as ended,
        reading(world.database.dsn(), json=False) as operator,
    ):
        operator.call("award_points", user_id=None, to_user_id=user, points=5, reason="x")
    assert ended.value.exit_code == 2
    assert world.points(user) == 0


def test_what_somebody_holds_is_not_waited_for_for_ever(
    operate: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "LOCK_SECONDS", 0.05)
    holder = world.session(autocommit=False)
    holder.execute("select from points_rules where event_type = 'workout' for update")
    assert operate(*SET).code == 2
    holder.rollback()
    assert operate(*SET).code == 0


def test_a_constraint_says_its_name(operate: Run) -> None:
    done = operate("trust", "set-policy", "--validate-at", "20", "--reason", "x", "--json")
    assert (done.code, done.json["refusal"]["code"]) == (1, "thresholds_are_in_order")


@pytest.mark.parametrize(
    "command",
    [SET, ("report",), ("history", "d0000000-0000-4000-8000-000000000001"), ("backtest",)],
)
def test_an_absent_database_is_code_2(operate: Run, command: tuple[str, ...]) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    assert operate(*command, "--database-url", url, "--json").code == 2

"""`tallybook award` gives and takes points; what is large waits for a second person."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.cli.conftest import Run
from tests.world import World


def test_points_are_given_and_taken(operate: Run, world: World) -> None:
    user = world.user()
    given = operate("award", str(user), "500", "--reason", "A competition won", "--json").json
    assert (given["status"], given["points_available"], given["dry_run"]) == (
        "validated", 500, False,
    )  # fmt: skip
    assert operate("award", str(user), "-200", "--reason", "A mistake").code == 0
    assert world.points(user) == 300


def test_under_a_key_it_happens_once(operate: Run, world: World) -> None:
    user = world.user()
    award = ("award", str(user), "50", "--reason", "Welcome", "--key", "welcome-1", "--json")
    assert [operate(*award).json["replayed"] for _ in range(2)] == [False, True]
    assert world.points(user) == 50


def test_a_large_award_waits(operate: Run, world: World) -> None:
    user = world.user()
    done = operate("award", str(user), "10001", "--reason", "The jackpot")
    assert done.code == 0
    assert "review approve" in done.output
    assert world.points(user) == 0


def test_a_refusal_is_code_1_and_tells_its_code(operate: Run, world: World) -> None:
    user = world.user(points=10)
    done = operate("award", str(user), "-50", "--reason", "Too much", "--json")
    assert (done.code, done.json["refusal"]["code"]) == (1, "insufficient_funds")
    assert "insufficient_funds" in done.complaint
    assert operate("award", str(user), "5", "--reason", " ").code == 1
    assert world.points(user) == 10


def test_a_dry_run_changes_nothing_and_is_refused_as_well(operate: Run, world: World) -> None:
    user = world.user(points=10)
    written = world.count("audit_log")
    tried = operate("award", str(user), "90", "--reason", "Perhaps", "--dry-run", "--json").json
    assert (tried["points_available"], tried["dry_run"]) == (100, True)
    assert world.points(user) == 10
    assert world.count("audit_log") == written
    assert operate("award", str(user), "-90", "--reason", "No", "--dry-run").code == 1


def test_who_acts_is_written_down(operate: Run, world: World) -> None:
    user = str(world.user())
    operate("award", user, "1", "--reason", "By the environment")
    operate("award", user, "2", "--reason", "By an option", "--actor", "eve@example.org")
    actors = world.rows("select actor from audit_log where action = 'points.award' order by 1")
    assert [row["actor"] for row in actors] == ["eve@example.org", "op@example.org"]


def test_what_makes_no_award_is_code_2(operate: Run) -> None:
    assert operate("award", str(uuid4()), "5").code == 2
    assert operate("award", "someone", "5", "--reason", "Whoever").code == 2
    assert operate("award", str(uuid4()), "5", "--reason", "x", "--nonsense").code == 2


def test_an_operators_own_login_is_enough(operate: Run, world: World) -> None:
    user = world.user()
    url = world.database.dsn("tallybook_operator")
    assert operate("award", str(user), "5", "--reason", "x", "--database-url", url).code == 0
    foreign = world.database.dsn("tallybook_functions")
    assert operate("award", str(user), "5", "--reason", "x", "--database-url", foreign).code == 2


@pytest.mark.parametrize("points", ["2147483648", "-2147483648", "many"])
def test_more_than_an_event_can_hold_is_code_2(operate: Run, world: World, points: str) -> None:
    assert operate("award", str(world.user()), points, "--reason", "x").code == 2
    assert world.count("points_events") == 0

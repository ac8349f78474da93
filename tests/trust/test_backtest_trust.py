"""Backtest: what other thresholds or rules would have decided, without deciding anything."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.trust.court import HOUR_AGO, assessment, in_review, spaced
from tests.world import NOW, Connection, World, refused


def backtest(world: World, through: Connection | None = None, **arguments: Any) -> Any:
    if "rules" in arguments:
        arguments["rules"] = json.dumps(arguments["rules"])
    return world.call("public.backtest_trust", arguments, through or world.operator)


@pytest.fixture
def judged(world: World) -> None:
    """Two habits in review, a rejected workout, and what was before each of them."""
    in_review(world)
    in_review(world)
    user = world.user()
    world.submit(user, at=HOUR_AGO, event_type="workout")
    world.submit(user, at=HOUR_AGO + timedelta(seconds=0.5), event_type="workout")
    world.validate()


@pytest.mark.usefixtures("judged")
def test_a_lower_threshold(world: World) -> None:
    assert backtest(world, validate_at=50) == {
        "policy": {"policy_id": "default", "base_score": 70, "validate_at": 50, "review_at": 30},
        "since": None,
        "until": None,
        "assessed": 6,
        "changed": 2,
        "by_event_type": [
            {
                "event_type": "habit_completion",
                "from": "pending_review",
                "to": "validated",
                "events": 2,
                "users": 2,
                "points": 20,
            }
        ],
        "points_change": 20,
    }


@pytest.mark.usefixtures("judged")
def test_a_higher_threshold_takes_points_away(world: World) -> None:
    found = backtest(world, validate_at=71, review_at=0)
    assert (found["changed"], found["points_change"]) == (4, -10 - 10 - 20)
    names = ("event_type", "from", "to", "events", "users", "points")
    assert [tuple(line[name] for name in names) for line in found["by_event_type"]] == [
        ("habit_completion", "validated", "pending_review", 2, 2, 20),
        ("workout", "rejected", "pending_review", 1, 1, 20),
        ("workout", "validated", "pending_review", 1, 1, 20),
    ]


@pytest.mark.usefixtures("judged")
def test_a_changed_rule(world: World) -> None:
    rule = {"rule_id": "spacing_under_ten_seconds"}
    assert backtest(world, rules=[rule])["changed"] == 0
    assert backtest(world, rules=[rule | {"weight": -10}])["changed"] == 2
    assert backtest(world, rules=[rule | {"mode": "shadow"}])["points_change"] == 20
    assert backtest(world, rules=[rule | {"parameters": {"below": 5}}])["changed"] == 2
    other = {"rule_id": "spacing_under_one_second"}
    both = [rule | {"weight": -10}, other | {"weight": -25}]
    assert backtest(world, rules=both)["changed"] == 3
    both = [rule | {"weight": 0}, other | {"weight": 0}]
    assert backtest(world, rules=both)["points_change"] == 40


@pytest.mark.usefixtures("judged")
def test_the_shadow_is_tried_before_it_is_trusted(world: World) -> None:
    world.submit(world.user(), at=world.now() - timedelta(hours=73))
    world.validate()
    late = {"rule_id": "three_days_late", "mode": "enforce", "weight": -15}
    found = backtest(world, rules=[late])
    assert (found["changed"], found["points_change"]) == (1, -10)


@pytest.mark.usefixtures("judged")
def test_it_says_what_the_update_then_does(world: World) -> None:
    """The same judge: what a backtest foretells is what the worker decides after the update."""
    foretold = backtest(world, validate_at=50)["by_event_type"]
    world.operator.execute("update trust_policies set validate_at = 50")
    assert backtest(world)["by_event_type"] == foretold
    world.operator.execute(
        "update points_events set validation_status = 'pending'"
        " where validation_status = 'pending_review'"
    )
    assert world.validate()["validated"] == 2
    assert backtest(world)["changed"] == 0


@pytest.mark.usefixtures("judged")
def test_it_writes_nothing(world: World) -> None:
    def everything() -> list[Any]:
        tables = ("points_events", "trust_assessments", "trust_policies", "trust_rules",
                  "fraud_insights", "user_points_cache", "audit_log", "device_users")  # fmt: skip
        return [world.rows(f"select * from {table} order by 1, 2") for table in tables]

    before = everything()
    with world.operator.transaction():
        world.operator.execute("set transaction read only")
        first = backtest(world, validate_at=50)
        assert backtest(world, validate_at=50) == first
    assert everything() == before


def test_a_span_of_time(world: World) -> None:
    in_review(world)
    world.pass_time(timedelta(hours=1))
    in_review(world)
    later = NOW + timedelta(hours=1)
    assert backtest(world, validate_at=50)["changed"] == 2
    found = backtest(world, validate_at=50, since=later)
    assert (found["assessed"], found["changed"]) == (2, 1)
    found = backtest(world, validate_at=50, until=later)
    assert (found["assessed"], found["changed"]) == (2, 1)
    assert backtest(world, since=NOW, until=NOW)["assessed"] == 0


def test_lists_and_the_unknown_stay_what_they_were(world: World) -> None:
    user = world.user()
    world.operator.execute(
        "insert into trust_lists (list, subject_type, subject, reason)"
        " values ('deny', 'user', %s, 'known')",
        (str(user),),
    )
    world.submit(user)
    world.submit(world.user())
    world.validate()
    assert backtest(world, validate_at=70, review_at=70)["changed"] == 0


def test_where_nothing_was_judged(world: World) -> None:
    found = backtest(world)
    assert (found["assessed"], found["changed"], found["points_change"]) == (0, 0, 0)
    assert found["by_event_type"] == []


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ({"validate_at": 101}, "validate_at: "),
        ({"validate_at": 20}, "validate_at: "),
        ({"review_at": 61}, "review_at: "),
        ({"review_at": -1}, "review_at: "),
        ({"rules": {"rule_id": "open_insights"}}, "rules: "),
        ({"rules": ["open_insights"]}, "rules: "),
        ({"rules": [{"rule_id": "unheard_of", "weight": 1}]}, "rules: there is no rule unheard_of"),
        ({"rules": [{"weight": 1}]}, "rules: "),
        ({"rules": [{"rule_id": "open_insights", "weigth": 1}]}, "rules: "),
        ({"rules": [{"rule_id": "open_insights", "weight": None}]}, "rules: "),
        ({"rules": [{"rule_id": "open_insights", "weight": "much"}]}, "rules: "),
        ({"rules": [{"rule_id": "open_insights", "mode": "on"}]}, "rules: "),
        ({"rules": [{"rule_id": "open_insights", "parameters": {"above": 1}}]}, "rules: "),
    ],
)
def test_a_question_that_makes_no_sense(
    world: World, arguments: dict[str, Any], detail: str
) -> None:
    with refused("invalid_body", 400, detail):
        backtest(world, **arguments)


def test_without_an_active_policy(world: World) -> None:
    world.operator.execute("update trust_policies set is_active = false")
    with refused("unavailable", 503):
        backtest(world)


def test_whom_it_answers(world: World) -> None:
    for session in (world.functions, world.worker):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            backtest(world, through=session)
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("set local role service_role")
        assert backtest(world, through=world.admin)["assessed"] == 0


def test_what_is_recorded_is_what_the_answer_rests_on(world: World) -> None:
    """Not the events as they are today."""
    event_id = spaced(world, world.user(), 5)
    world.validate()
    world.admin.execute(
        "update trust_assessments set features = features || '{\"seconds_to_nearest_event\": 30}'"
        " where event_id = %s",
        (event_id,),
    )
    assert backtest(world)["changed"] == 1
    assert assessment(world, event_id)["verdict"] == "pending_review"

"""Rules and thresholds are rows: an update counts at once, has a number and is written down."""

from __future__ import annotations

import psycopg
import pytest

from tests.trust.court import assessment, audited, in_review, spaced
from tests.world import World


def test_an_update_of_the_policy_counts_at_once_and_has_a_number(world: World) -> None:
    world.operator.execute("update trust_policies set validate_at = 50 where is_active")
    event_id = spaced(world, world.user(), 5)
    world.validate()
    found = assessment(world, event_id)
    assert (found["verdict"], found["policy_version"]) == ("validated", 2)
    (row,) = audited(world, "settings.update")
    assert (row["subject_type"], row["subject_id"]) == ("trust_policies", "default")
    assert (row["before"]["validate_at"], row["after"]["validate_at"]) == (60, 50)
    assert (row["before"]["version"], row["after"]["version"]) == (1, 2)


def test_an_update_of_a_rule_counts_at_once_and_is_told_with_what_it_found(world: World) -> None:
    world.operator.execute(
        """update trust_rules set parameters = '{"below": 20}', weight = -45"""
        " where rule_id = 'spacing_under_ten_seconds'"
    )
    event_id = spaced(world, world.user(), 15)
    world.validate()
    assert assessment(world, event_id)["hits"] == [
        {
            "rule": "spacing_under_ten_seconds",
            "version": 2,
            "mode": "enforce",
            "weight": -45,
            "below": 20,
            "observed": 15,
        }
    ]
    assert world.status(event_id) == "rejected"
    assert len(audited(world, "settings.update")) == 1


def test_another_policy_takes_over(world: World) -> None:
    world.operator.execute("update trust_policies set is_active = false")
    world.operator.execute(
        "insert into trust_policies (policy_id, base_score, validate_at, review_at, is_active)"
        " values ('strict', 50, 60, 30, true)"
    )
    event_id = world.submit(world.user())["id"]
    world.validate()
    found = assessment(world, event_id)
    assert (found["policy_id"], found["trust_score"]) == ("strict", 50)


def test_a_rule_between_two_bounds(world: World) -> None:
    world.operator.execute(
        """update trust_rules set parameters = '{"at_least": 2, "below": 5}'"""
        " where rule_id = 'spacing_under_ten_seconds'"
    )
    inside, outside = spaced(world, world.user(), 2), spaced(world, world.user(), 5)
    world.validate()
    assert [assessment(world, e)["trust_score"] for e in (inside, outside)] == [50, 70]


def test_a_rules_own_severity_comes_first(world: World) -> None:
    world.operator.execute("update trust_rules set severity = 'low'")
    in_review(world)
    assert world.value("select severity from fraud_insights") == "low"


def test_an_event_sent_back_is_judged_anew(world: World) -> None:
    event_id = in_review(world)
    world.operator.execute("update trust_policies set validate_at = 50 where is_active")
    world.operator.execute(
        "update points_events set validation_status = 'pending' where id = %s", (event_id,)
    )
    assert world.validate()["validated"] == 1
    assert assessment(world, event_id)["verdict"] == "validated"


@pytest.mark.parametrize(
    "parameters",
    ["{}", '{"below": "5"}', '{"beneath": 5}', '{"below": 5, "above": 1}', "[]", '{"below": null}'],
)
def test_parameters_are_bounds(world: World, parameters: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        world.operator.execute("update trust_rules set parameters = %s", (parameters,))


@pytest.mark.parametrize(
    "change", ["mode = 'on'", "insight_type = 'odd'", "severity = 'dire'", "feature = 'weather'"]
)
def test_a_rule_speaks_of_what_there_is(world: World, change: str) -> None:
    with pytest.raises(
        (psycopg.errors.CheckViolation, psycopg.errors.ForeignKeyViolation), match=change[:4]
    ):
        world.operator.execute(f"update trust_rules set {change}")


def test_nobody_but_an_operator_sets_the_rules(world: World) -> None:
    for session in (world.functions, world.worker):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("update trust_rules set weight = 0")

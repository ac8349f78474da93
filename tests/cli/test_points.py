"""`tallybook points`: rules and limits are changed with a reason, and all can be stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.cli.conftest import Run
from tests.world import World


def test_a_rule_is_changed_with_a_reason(operate: Run, world: World) -> None:
    change = ("points", "set-rule", "workout", "--points", "30", "--daily-max", "2")
    tried = operate(*change, "--reason", "Spring", "--dry-run", "--json").json
    assert (tried["before"]["points"], tried["after"]["points"]) == (20, 30)
    assert world.value("select points from points_rules where event_type = 'workout'") == 20
    assert operate(*change, "--reason", "Spring").code == 0
    assert (
        operate("points", "set-rule", "workout", "--daily-max", "none", "--reason", "x").code == 0
    )
    (rule,) = world.rows("select points, daily_max from points_rules where event_type = 'workout'")
    assert (rule["points"], rule["daily_max"]) == (30, None)
    logged = world.rows("select actor, reason from audit_log order by audit_id")
    assert [tuple(row.values()) for row in logged] == [
        ("op@example.org", "Spring"),
        ("op@example.org", "x"),
    ]


def test_a_program_is_changed_and_points_begin_to_expire(operate: Run, world: World) -> None:
    world.freeze()
    user = world.user(points=100)
    change = ("points", "set-program", "standard", "--reason", "New terms")
    done = operate(
        *change, "--expires-after-days", "30", "--events-per-hour", "none", "--json"
    ).json
    assert done["after"]["expires_after_days"] == 30
    assert done["after"]["events_per_hour_max"] is None
    assert operate("points", "expiring", "--days", "29", "--json").json["lots"] == []
    for options in ((), ("--user", str(user))):
        expiring = operate("points", "expiring", "--days", "31", "--json", *options).json
        assert expiring["points"] == 100
        (lot,) = expiring["lots"]
        assert lot["user_id"] == str(user)
    assert str(user) in operate("points", "expiring", "--days", "31").output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("set-rule", "flying", "--points", "1", "--reason", "x"), 1),
        (("set-rule", "workout", "--points", "-1", "--reason", "x"), 1),
        (("set-rule", "workout", "--points", "1", "--reason", " "), 1),
        (("set-rule", "workout", "--reason", "x"), 2),
        (("set-rule", "workout", "--points", "1"), 2),
        (("set-rule", "workout", "--daily-max", "few", "--reason", "x"), 2),
        (("set-program", "golden", "--events-per-day", "1", "--reason", "x"), 1),
        (("set-program", "standard", "--points-per-day", "0", "--reason", "x"), 1),
    ],
)
def test_what_is_no_change(operate: Run, arguments: tuple[str, ...], code: int) -> None:
    done = operate("points", *arguments, "--json")
    assert done.code == code
    assert code == 2 or done.json["refusal"]["code"]


def test_rules_are_shown_as_they_are(operate: Run) -> None:
    shown = operate("points", "rules", "--json").json
    assert {"event_type": "workout", "points": 20}.items() <= {
        row["event_type"]: row for row in shown["rules"]
    }["workout"].items()
    assert [row["days_min"] for row in shown["multipliers"]] == [7, 14, 30, 90]
    assert shown["programs"][0]["events_per_hour_max"] == 100
    assert "workout" in operate("points", "rules").output


def test_all_is_stopped_and_goes_on(operate: Run, world: World) -> None:
    event, template = world.submit(world.user())["id"], world.template()
    on_offer = "select is_active from coupon_templates where template_id = %s"
    tried = operate("points", "suspend", "--reason", "An incident", "--dry-run", "--json").json
    assert (tried["events"], tried["templates"]) == (1, 1)
    assert world.status(event) == "pending"
    assert operate("points", "suspend", "--reason", "An incident").code == 0
    assert (world.status(event), world.value(on_offer, (template,))) == ("pending_review", False)
    assert operate("points", "resume", "--reason", " ").code == 1
    assert operate("points", "resume", "--reason", "Over").code == 0
    assert (world.status(event), world.value(on_offer, (template,))) == ("pending", True)


def test_nothing_expires_where_no_program_says_so(operate: Run, world: World) -> None:
    world.freeze()
    world.user(points=100)
    world.pass_time(timedelta(days=400))
    assert operate("points", "expiring", "--json").json == {"points": 0, "lots": []}
    assert operate("points", "expiring").code == 0

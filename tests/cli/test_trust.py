"""`tallybook trust`: rules, thresholds and lists are changed with a reason."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.cli.conftest import Run
from tests.world import World

RULE = "spacing_under_ten_seconds"


def test_a_rule_is_changed_and_its_version_grows(operate: Run, world: World) -> None:
    change = ("trust", "set-rule", RULE, "--weight", "-5", "--mode", "shadow", "--below", "20")
    tried = operate(*change, "--reason", "Too strict", "--dry-run", "--json").json
    assert (tried["before"]["weight"], tried["after"]["weight"]) == (-20, -5)
    weight = "select weight from trust_rules where rule_id = %s"
    assert world.value(weight, (RULE,)) == -20
    done = operate(*change, "--reason", "Too strict", "--json").json
    assert done["after"]["parameters"] == {"below": 20}
    assert done["after"]["version"] == done["before"]["version"] + 1
    assert world.value(weight, (RULE,)) == -5
    assert world.count("audit_log", "reason = 'Too strict' and actor = 'op@example.org'") == 1
    between = ("--below", "none", "--at-least", "2.5", "--reason", "x", "--json")
    done = operate("trust", "set-rule", RULE, *between).json
    assert done["after"]["parameters"] == {"at_least": 2.5}


def test_the_threshold_of_50_is_one_command(operate: Run, world: World) -> None:
    change = ("trust", "set-policy", "--validate-at", "50")
    assert operate(*change, "--reason", "Too many wait", "--dry-run").code == 0
    threshold = "select validate_at from trust_policies where is_active"
    assert world.value(threshold) == 60
    assert operate(*change, "--reason", "Too many wait").code == 0
    assert world.value(threshold) == 50


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("set-rule", "no_such_rule", "--weight", "1", "--reason", "x"), 1),
        (("set-rule", RULE, "--weight", "1", "--reason", " "), 1),
        (("set-rule", RULE, "--below", "none", "--reason", "x"), 1),
        (("set-rule", RULE, "--mode", "loud", "--reason", "x"), 2),
        (("set-rule", RULE, "--below", "few", "--reason", "x"), 2),
        (("set-rule", RULE, "--below", "inf", "--reason", "x"), 2),
        (("set-rule", RULE, "--at-least", "-inf", "--reason", "x"), 2),
        (("set-rule", RULE, "--below", "nan", "--reason", "x"), 2),
        (("set-rule", RULE, "--reason", "x"), 2),
        (("set-policy", "--validate-at", "20", "--reason", "x"), 1),
        (("set-policy", "--validate-at", "101", "--reason", "x"), 1),
        (("set-policy", "--reason", "x"), 2),
        (("list", "remove", "deny", "device", "d-1", "--reason", "x"), 1),
        (("list", "add", "deny", "device", "d-1", "--reason", " "), 1),
        (("list", "add", "deny", "user", "somebody", "--reason", "x"), 2),
        (("list", "add", "deny", "address", "300.1.1.1", "--reason", "x"), 2),
        (("list", "add", "deny", "address", "10.1.1.0/25", "--reason", "x"), 2),
        (("list", "add", "deny", "address", "10.1.1.1/24", "--reason", "x"), 2),
        (("list", "add", "hate", "device", "d-1", "--reason", "x"), 2),
    ],
)
def test_what_is_no_change(operate: Run, arguments: tuple[str, ...], code: int) -> None:
    done = operate("trust", *arguments, "--json")
    assert done.code == code
    assert code == 2 or done.json["refusal"]["code"]


def test_rules_are_shown(operate: Run) -> None:
    shown = operate("trust", "rules", "--json").json
    assert (shown["policies"][0]["validate_at"], shown["policies"][0]["review_at"]) == (60, 30)
    assert RULE in {row["rule_id"] for row in shown["rules"]}
    assert RULE in operate("trust", "rules", env={"COLUMNS": "100"}).output


def test_a_subject_is_listed_until_a_time_and_taken_off(operate: Run, world: World) -> None:
    world.freeze()
    user, entry = str(uuid4()), ("watch", "user")
    add = ("trust", "list", "add", *entry, user.upper(), "--reason", "Odd", "--days", "7")
    assert operate(*add, "--dry-run").code == 0
    assert world.count("trust_lists") == 0
    added = operate(*add, "--json").json
    assert added["subject"] == user
    (row,) = world.rows("select expires_at, created_by from trust_lists")
    assert row["expires_at"] == world.now() + timedelta(days=7)
    assert row["created_by"] == "op@example.org"
    for_good = ("trust", "list", "add", *entry, user, "--reason", "Odd still")
    assert operate(*for_good).code == 0
    (shown,) = operate("trust", "list", "show", "watch", "--json").json["entries"]
    assert (shown["reason"], shown["expires_at"]) == ("Odd still", None)
    assert user in operate("trust", "list", "show", env={"COLUMNS": "100"}).output
    assert operate("trust", "list", "show", "deny", "--json").json["entries"] == []
    assert operate("trust", "list", "remove", *entry, user, "--reason", "Cleared").code == 0
    assert world.count("trust_lists") == 0


def test_addresses_are_written_as_events_have_them(operate: Run, world: World) -> None:
    address = ("deny", "address", "2001:DB8::0001", "--reason", "A farm", "--until", "2030-01-01")
    assert operate("trust", "list", "add", *address).code == 0
    assert world.value("select subject from trust_lists") == "2001:db8::1"
    assert operate("trust", "list", "remove", *address[:3], "--reason", "x").code == 0
    network = ("deny", "address", "2001:DB8::/32", "--reason", "All of it")
    assert operate("trust", "list", "add", *network).code == 0
    assert world.value("select subject from trust_lists") == "2001:db8::/32"

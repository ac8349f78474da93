"""`tallybook coupon template`: what is on offer is set by a command, with a reason."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.cli.conftest import Run
from tests.world import World

ADD = (
    "coupon", "template", "add", "--name", "A tea", "--cost", "300",
    "--value-type", "product", "--value", "tea", "--reason", "Spring",
)  # fmt: skip


def test_a_template_is_offered_and_sold(operate: Run, world: World) -> None:
    tried = operate(*ADD, "--dry-run", "--json")
    assert tried.json["points_cost"] == 300
    assert world.count("coupon_templates") == 0
    added = operate(
        *ADD, "--per-user", "none", "--limit", "2", "--budget", "900", "--partner-id", "teahouse",
        "--valid-from", "2020-01-01", "--valid-until", "2999-01-01", "--json",
    ).json  # fmt: skip
    assert (added["max_redemptions_per_user"], added["max_redemptions"]) == (None, 2)
    user = world.user(points=1000)
    for _ in "ab":
        world.redeem(user, added["template_id"])
    (listed,) = operate("coupon", "templates", "--json").json["templates"]
    assert (listed["issued"], listed["issued_points"]) == (2, 600)
    assert added["template_id"] in operate("coupon", "templates", env={"COLUMNS": "100"}).output
    assert world.count("audit_log", "reason = 'Spring' and actor = 'op@example.org'") == 1


def test_what_is_not_given_stays(operate: Run, world: World) -> None:
    template = str(world.template(cost=500))
    change = ("coupon", "template", "set", template, "--reason", "x", "--json")
    assert operate(*change, "--cost", "600", "--dry-run").json["after"]["points_cost"] == 600
    after = operate(*change, "--inactive", "--per-user", "3", "--limit", "none").json["after"]
    assert (after["is_active"], after["max_redemptions_per_user"], after["points_cost"]) == (
        False, 3, 500,
    )  # fmt: skip
    assert operate("coupon", "templates", "--active", "--json").json["templates"] == []
    assert operate("coupon", "templates").code == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--cost", "0"), 1),
        (("--valid-from", "2030-01-01", "--valid-until", "2029-01-01"), 1),
        (("--cost", "some"), 2),
        (("--limit", "few"), 2),
        (("--valid-until", "2h"), 2),
        (("--value-type", "wish"), 2),
        ((), 2),
    ],
)
def test_what_is_no_offer(operate: Run, world: World, options: tuple[str, ...], code: int) -> None:
    change = ("coupon", "template", "set", str(world.template()), "--reason", "x")
    assert operate(*change, *options).code == code


def test_what_is_not_there_is_not_changed(operate: Run) -> None:
    done = operate(
        "coupon", "template", "set", str(uuid4()), "--cost", "5", "--reason", "x", "--json"
    )
    assert (done.code, done.json["refusal"]["code"]) == (1, "template_not_found")

"""`tallybook partner`: who may take a partner's coupons."""

from __future__ import annotations

from uuid import uuid4

from tests.cli.conftest import Run
from tests.world import World


def test_members_come_and_go(operate: Run, world: World) -> None:
    user = str(uuid4())
    assert operate("partner", "add", "starbucks", user, "--dry-run").code == 0
    assert world.count("partner_members") == 0
    added = [operate("partner", "add", "starbucks", user, "--json").json["added"] for _ in "ab"]
    assert added == [True, False]
    operate("partner", "add", "amazon", str(uuid4()))
    (member,) = operate("partner", "list", "starbucks", "--json").json["members"]
    assert member["user_id"] == user
    assert user in operate("partner", "list").output
    assert operate("partner", "remove", "starbucks", user, "--reason", "Left").code == 0
    assert world.count("partner_members", "partner_id = 'starbucks'") == 0
    assert world.count("audit_log", "reason = 'Left' and actor = 'op@example.org'") == 1


def test_who_is_none_is_not_removed(operate: Run) -> None:
    done = operate("partner", "remove", "starbucks", str(uuid4()), "--json")
    assert (done.code, done.json["refusal"]["code"]) == (1, "member_not_found")

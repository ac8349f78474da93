"""`tallybook admin` appoints administrators and takes their office away; both are written down."""

from __future__ import annotations

from uuid import uuid4

from tests.cli.conftest import Run
from tests.world import World


def test_somebody_comes_and_goes_and_comes_back(operate: Run, world: World) -> None:
    user = str(uuid4())
    added = operate("admin", "add", user, "--email", "ada@example.org", "--json").json
    assert (added["id"], added["is_active"]) == (user, True)
    assert operate("admin", "remove", user).code == 0
    (row,) = operate("admin", "list", "--json").json["admins"]
    assert (row["email"], row["is_active"]) == ("ada@example.org", False)
    operate("admin", "add", user, "--email", "ada@example.net", "--reason", "She is back")
    assert user in operate("admin", "list").output
    logged = world.rows(
        "select actor, action, reason from audit_log where subject_id = %s order by audit_id",
        (user,),
    )
    assert [(row["actor"], row["action"], row["reason"]) for row in logged] == [
        ("op@example.org", "settings.insert", None),
        ("op@example.org", "settings.update", None),
        ("op@example.org", "settings.update", "She is back"),
    ]


def test_who_is_none_is_not_removed(operate: Run) -> None:
    done = operate("admin", "remove", str(uuid4()), "--json")
    assert (done.code, done.json["refusal"]["code"]) == (1, "admin_not_found")


def test_a_dry_run_appoints_nobody(operate: Run, world: World) -> None:
    done = operate("admin", "add", str(uuid4()), "--email", "eve@example.org", "--dry-run")
    assert done.code == 0
    assert world.count("system_admins") == 0

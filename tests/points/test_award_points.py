"""An administrator's award: points by decision, with a reason, and above a limit by two."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.world import Connection, World, refused


def admin(world: World, email: str = "ada@example.org") -> UUID:
    """An administrator, appointed by an operator."""
    user = uuid4()
    world.operator.execute("insert into system_admins (id, email) values (%s, %s)", (user, email))
    return user


def award(
    world: World,
    by: UUID | None,
    to: UUID,
    points: int,
    reason: str | None = "a good deed",
    through: Connection | None = None,
    **more: Any,
) -> Any:
    arguments = {"user_id": by, "to_user_id": to, "points": points, "reason": reason, **more}
    return world.call("public.award_points", arguments, through or world.functions)


def test_an_award_is_spendable_at_once_and_written_down(world: World) -> None:
    by, to = admin(world), world.user(points=5)
    answer = award(world, by, to, 100, request_id="r-1")
    assert answer == {
        "event_id": answer["event_id"],
        "user_id": str(to),
        "points": 100,
        "status": "validated",
        "points_available": 105,
        "replayed": False,
    }
    assert world.cache(to) == (105, 0, 105, 0)
    (event,) = world.rows("select * from points_events where id = %s", (answer["event_id"],))
    assert (event["event_type"], event["proof_type"]) == ("admin_award", "manual_admin")
    assert (event["validated_by"], event["validation_notes"]) == ("ada@example.org", "a good deed")
    (row,) = world.rows("select * from audit_log where subject_id = %s", (answer["event_id"],))
    assert (row["actor"], row["action"]) == ("ada@example.org", "points.award")
    assert (row["reason"], row["request_id"]) == ("a good deed", "r-1")
    assert row["after"] == {"user_id": str(to), "points": 100, "status": "validated"}


def test_a_deduction_is_an_award_below_zero(world: World) -> None:
    by, to = admin(world), world.user(points=50)
    assert award(world, by, to, -30)["points_available"] == 20
    with refused("insufficient_funds", 400, "points: "):
        award(world, by, to, -21)
    assert world.count("points_events", "event_type = 'admin_deduction'") == 1
    rows = world.rows("select after from audit_log where actor = 'ada@example.org'")
    assert [row["after"]["points"] for row in rows] == [-30]


def test_the_same_key_is_the_same_award(world: World) -> None:
    by, to = admin(world), world.user()
    first = award(world, by, to, 10, idempotency_key="k")
    assert award(world, by, to, 10, idempotency_key="k") == {**first, "replayed": True}
    assert world.points(to) == 10
    with refused("nonce_reused", 409, "idempotency_key: "):
        award(world, by, to, 11, idempotency_key="k")
    award(world, by, world.user(), 11, idempotency_key="k")


@pytest.mark.parametrize("reason", [None, "", "  "])
def test_an_award_says_why(world: World, reason: str | None) -> None:
    with refused("reason_required", 400, "reason: "):
        award(world, admin(world), world.user(), 10, reason)


def test_only_an_active_administrator_awards_and_never_to_themselves(world: World) -> None:
    by = admin(world)
    with refused("forbidden", 403):
        award(world, world.user(), world.user(), 10)
    with refused("own_event", 403):
        award(world, by, by, 10)
    with refused("invalid_points", 400, "points: "):
        award(world, by, world.user(), 0)
    world.operator.execute("update system_admins set is_active = false")
    with refused("forbidden", 403):
        award(world, by, world.user(), 10)


def test_a_command_line_says_who_acts(world: World) -> None:
    award(world, None, world.user(), 10, through=world.operator, actor="grace@example.org")
    award(world, None, world.user(), 10, through=world.operator)
    rows = world.rows("select actor from audit_log where action = 'points.award' order by 1")
    assert [row["actor"] for row in rows] == ["grace@example.org", "tallybook_operator"]


def test_a_large_award_waits_for_a_second_administrator(world: World) -> None:
    by, to = admin(world), world.user()
    answer = award(world, by, to, 10_001)
    assert (answer["status"], answer["points_available"]) == ("pending_review", 0)
    assert world.cache(to) == (0, 10_001, 0, 0)
    assert award(world, by, to, 10_000)["status"] == "validated"


def test_at_once_one_key_awards_once(world: World) -> None:
    by, to = admin(world), world.user()
    results = world.at_once(
        [lambda s: award(world, by, to, 10, idempotency_key="k", through=s)] * 10
    )
    assert sorted(result["replayed"] for result in results) == [False] + [True] * 9  # type: ignore[index]
    assert world.points(to) == 10

"""History stays true, whoever writes it: here is what even an operator and the owner cannot do."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.world import World, refused

STATUSES = ("pending", "validating", "pending_review", "flagged", "validated", "rejected")
ALLOWED = {
    "pending": {"validating", "pending_review", "flagged", "validated", "rejected"},
    "validating": {"pending", "pending_review", "validated", "rejected"},
    "pending_review": {"pending", "flagged", "validated", "rejected"},
    "flagged": {"pending_review", "validated", "rejected"},
    "validated": set[str](),
    "rejected": set[str](),
}
FROZEN: dict[str, Any] = {
    "user_id": uuid4(),
    "id": uuid4(),
    "event_type": "workout",
    "event_time": "2020-01-01",
    "points_delta": 1_000_000,
    "payload_hash": "x",
    "created_at": "2020-01-01",
    "transfer_id": None,
    "proof_type": "internal_of_another_kind",
    "related_entity_type": "coupon",
    "related_entity_id": uuid4(),
}


@pytest.fixture
def validated(world: World) -> str:
    event_id: str = world.submit(world.user())["id"]
    world.validate()
    return event_id


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_a_validated_event_keeps_its_facts(world: World, validated: str, role: str) -> None:
    for column, value in FROZEN.items():
        with refused("event_frozen", 409):
            getattr(world, role).execute(
                f"update points_events set {column} = %s where id = %s", (value, validated)
            )


def test_notes_on_a_validated_event_may_be_made(world: World, validated: str) -> None:
    world.operator.execute("update points_events set validation_notes = 'seen'")
    assert world.value("select validation_notes from points_events") == "seen"


@pytest.mark.parametrize("status", STATUSES)
def test_an_event_moves_only_along_the_listed_ways(world: World, status: str) -> None:
    world.operator.execute(
        "insert into points_events"
        " (user_id, event_type, event_time, points_delta, validation_status)"
        " values (%s, 'habit_completion', now(), 0, %s)",
        (world.user(), status),
    )
    for new in STATUSES:
        with world.operator.transaction(force_rollback=True):
            change = f"update points_events set validation_status = '{new}' returning id"
            if new == status or new in ALLOWED[status]:
                assert len(world.operator.execute(change).fetchall()) == 1
            else:
                with refused("invalid_transition", 409):
                    world.operator.execute(change)


def test_a_status_that_does_not_exist_is_refused(world: World) -> None:
    world.submit(world.user())
    with pytest.raises(psycopg.errors.CheckViolation):
        world.operator.execute("update points_events set validation_status = 'lost'")


@pytest.mark.parametrize("column", ["user_id", "id"])
def test_an_event_never_changes_hands_or_name(world: World, column: str) -> None:
    world.submit(world.user())
    with refused("event_frozen", 409):
        world.operator.execute(f"update points_events set {column} = %s", (uuid4(),))


@pytest.mark.parametrize("status", ["pending", "validated"])
def test_no_event_is_deleted_by_its_owner(world: World, status: str) -> None:
    world.submit(world.user())
    if status == "validated":
        world.validate()
    with refused("event_frozen", 409):
        world.admin.execute("delete from points_events")


def test_the_table_is_not_emptied_by_its_owner(world: World) -> None:
    world.submit(world.user())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        world.admin.execute("truncate points_events")
    assert world.count("points_events") == 1


@pytest.mark.parametrize("role", ["operator", "worker", "functions"])
def test_nobody_else_may_even_try(world: World, role: str) -> None:
    for verb in ("delete from", "truncate"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            getattr(world, role).execute(f"{verb} points_events")


def test_points_move_only_for_validated_events(world: World) -> None:
    world.submit(world.user())
    with pytest.raises(psycopg.errors.CheckViolation) as violation:
        world.operator.execute("update points_events set transfer_id = id")
    assert (
        violation.value.diag.constraint_name == "a_validated_event_moves_points_under_its_own_name"
    )


@pytest.mark.parametrize("status", STATUSES)
def test_no_event_becomes_one_of_another_type(world: World, status: str) -> None:
    """A refund does what it does when it comes in, so nothing becomes one later."""
    world.operator.execute(
        "insert into points_events"
        " (user_id, event_type, event_time, points_delta, validation_status)"
        " values (%s, 'habit_completion', now(), 0, %s)",
        (world.user(), status),
    )
    with refused("event_frozen", 409):
        world.operator.execute("update points_events set event_type = 'coupon_refund'")


def test_a_device_has_a_name_of_a_length_that_can_be_looked_up(world: World) -> None:
    for length in (200, 201):
        with suppress(psycopg.errors.CheckViolation):
            world.operator.execute(
                "insert into points_events"
                " (user_id, event_type, event_time, points_delta, device_id)"
                " values (gen_random_uuid(), 'workout', now(), 0, repeat('d', %s))",
                (length,),
            )
    assert world.value("select length(device_id) from points_events") == 200

"""What the trust tests share: administrators, events that wait for one, and what a judge noted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.world import NOW, Connection, World

HOUR_AGO = NOW - timedelta(hours=1)


def administrator(world: World, email: str = "ada@example.org") -> UUID:
    """A user who is appointed as administrator."""
    user = uuid4()
    world.operator.execute("insert into system_admins (id, email) values (%s, %s)", (user, email))
    return user


def spaced(world: World, user: UUID, seconds: float, at: datetime = HOUR_AGO) -> str:
    """The second of two events of one user that lie so far apart."""
    world.submit(user, at=at)
    event_id: str = world.submit(user, at=at + timedelta(seconds=seconds))["id"]
    return event_id


def in_review(world: World, user: UUID | None = None, at: datetime = HOUR_AGO) -> str:
    """An event worth 10 that waits for a person, beside one that has counted."""
    event_id = spaced(world, user or world.user(), 5, at)
    world.validate()
    assert world.status(event_id) == "pending_review"
    return event_id


def assessment(world: World, event_id: str) -> dict[str, Any]:
    """What is written of how an event was judged."""
    (row,) = world.rows("select * from trust_assessments where event_id = %s", (event_id,))
    return dict(row)


def features(world: World, event_id: str) -> dict[str, Any]:
    """Decide what is pending, and tell what was known of this event then."""
    world.validate()
    found: dict[str, Any] = assessment(world, event_id)["features"]
    return found


def review(
    world: World,
    event_id: str,
    admin: UUID | None,
    decision: str = "approved",
    reason: str | None = "It is well",
    through: Connection | None = None,
    **more: Any,
) -> Any:
    """Review an event as the function does for an administrator."""
    arguments = {"user_id": admin, "event_id": event_id, "decision": decision, "reason": reason}
    return world.call("public.review_points_event", arguments | more, through or world.functions)


def audited(world: World, action: str) -> list[dict[str, Any]]:
    """The rows of the audit log about one kind of action, oldest first."""
    rows = world.rows("select * from audit_log where action = %s order by audit_id", (action,))
    return [dict(row) for row in rows]

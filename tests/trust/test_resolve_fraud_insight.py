"""Resolving: an insight is closed once, with what was found out, and then weighs no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.trust.court import administrator, assessment, audited, in_review, spaced
from tests.world import NOW, Connection, World, code_of, refused


@pytest.fixture
def ada(world: World) -> UUID:
    return administrator(world)


def resolve(
    world: World,
    insight_id: object,
    admin: UUID | None,
    notes: str | None = "A broken clock",
    through: Connection | None = None,
    **more: Any,
) -> Any:
    return world.call(
        "public.resolve_fraud_insight",
        {"user_id": admin, "insight_id": insight_id, "notes": notes} | more,
        through or world.functions,
    )


def insight_of(world: World, user: UUID) -> Any:
    spaced(world, user, 0.5)
    world.validate()
    return world.value("select insight_id from fraud_insights where user_id = %s", (user,))


def test_it_is_closed_with_what_was_found_out(world: World, ada: UUID) -> None:
    user = world.user()
    insight_id = insight_of(world, user)
    world.pass_time(timedelta(minutes=10))
    answer = resolve(world, insight_id, ada, request_id="r-1")
    assert (answer["insight_id"], answer["user_id"]) == (str(insight_id), str(user))
    assert (answer["resolved"], answer["resolved_by"]) == (True, "ada@example.org")
    assert answer["replayed"] is False
    (row,) = world.rows("select * from fraud_insights")
    assert (row["resolved"], row["resolved_at"]) == (True, world.now())
    assert (row["resolved_by"], row["resolution_notes"]) == ("ada@example.org", "A broken clock")
    (line,) = audited(world, "fraud_insight.resolved")
    assert (line["actor"], line["reason"]) == ("ada@example.org", "A broken clock")
    assert (line["subject_id"], line["request_id"]) == (str(insight_id), "r-1")
    event_id = world.submit(user, at=NOW)["id"]
    world.validate()
    assert assessment(world, event_id)["trust_score"] == 70


def test_saying_it_again_changes_nothing(world: World, ada: UUID) -> None:
    insight_id = insight_of(world, world.user())
    first = resolve(world, insight_id, ada)
    world.pass_time(timedelta(minutes=10))
    assert resolve(world, insight_id, ada) == {**first, "replayed": True}
    assert len(audited(world, "fraud_insight.resolved")) == 1


def test_it_is_refused(world: World, ada: UUID) -> None:
    insight_id = insight_of(world, world.user())
    with refused("forbidden", 403):
        resolve(world, insight_id, uuid4(), notes=None)
    for notes in (None, " "):
        with refused("reason_required", 400, "notes: "):
            resolve(world, insight_id, ada, notes)
    with refused("insight_not_found", 404):
        resolve(world, uuid4(), ada)
    with refused("own_event", 403):
        resolve(world, insight_of(world, ada), ada)
    resolve(world, insight_id, ada)
    with refused("already_resolved", 409, "ada@example.org"):
        resolve(world, insight_id, administrator(world, "bob@example.org"))
    with refused("already_resolved", 409):
        resolve(world, insight_id, ada, "Something else")


def test_what_a_review_has_resolved_is_resolved(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    world.call(
        "public.review_points_event",
        {"user_id": ada, "event_id": event_id, "decision": "approved", "reason": "Well"},
        world.functions,
    )
    insight_id = world.value("select insight_id from fraud_insights")
    with refused("already_resolved", 409):
        resolve(world, insight_id, ada)


def test_two_administrators_resolve_one_insight(world: World, ada: UUID) -> None:
    bob = administrator(world, "bob@example.org")
    for _ in range(10):
        insight_id = insight_of(world, world.user())
        results = world.at_once(
            [
                lambda s, i=insight_id: resolve(world, i, ada, through=s),  # type: ignore[misc]
                lambda s, i=insight_id: resolve(world, i, bob, through=s),  # type: ignore[misc]
            ]
        )
        lost = [code_of(r) for r in results if not isinstance(r, dict)]
        assert lost == ["already_resolved"]
    assert len(audited(world, "fraud_insight.resolved")) == 10

"""Labels: what an event turned out to be, and so how often each rule is right."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.trust.court import administrator, audited, in_review, review, spaced
from tests.world import Connection, World, refused


@pytest.fixture
def ada(world: World) -> UUID:
    return administrator(world)


def label(
    world: World,
    event_id: str,
    admin: UUID | None,
    says: str | None = "false_positive",
    through: Connection | None = None,
    **more: Any,
) -> Any:
    return world.call(
        "public.label_points_event",
        {"user_id": admin, "event_id": event_id, "label": says} | more,
        through or world.functions,
    )


def precision(world: World) -> dict[str, tuple[int, int, int, float | None]]:
    rows = world.rows("select * from trust_rule_precision", through=world.operator)
    return {
        f"{row['rule_id']} {row['version']}": (
            row["hits"],
            row["confirmed_fraud"],
            row["false_positive"],
            float(row["precision"]) if row["precision"] is not None else None,
        )
        for row in rows
    }


def test_a_label_is_kept_with_its_note(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = spaced(world, user, 0.5)
    world.validate()
    answer = label(world, event_id, ada, note="A watch that syncs late", request_id="r-1")
    note_id = answer.pop("note_id")
    assert answer == {
        "event_id": event_id,
        "user_id": str(user),
        "label": "false_positive",
        "note": "A watch that syncs late",
        "author": "ada@example.org",
        "replayed": False,
    }
    (row,) = world.rows("select * from points_review_notes")
    assert (str(row["note_id"]), row["created_at"]) == (note_id, world.now())
    (line,) = audited(world, "points_event.labelled")
    assert (line["subject_id"], line["request_id"]) == (event_id, "r-1")
    # Nothing moves by it.
    assert world.status(event_id) == "rejected"


def test_a_note_needs_no_label_and_a_label_no_note(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    label(world, event_id, ada, None, note="I have asked the user")
    label(world, event_id, ada, "confirmed_fraud")
    rows = world.rows("select note, label from points_review_notes order by note_id")
    assert [tuple(row.values()) for row in rows] == [
        ("I have asked the user", None),
        (None, "confirmed_fraud"),
    ]


def test_the_same_again_is_said_once(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    first = label(world, event_id, ada)
    assert label(world, event_id, ada) == {**first, "replayed": True}
    assert world.count("points_review_notes") == 1
    # Not after somebody has said something else.
    label(world, event_id, ada, "confirmed_fraud")
    assert label(world, event_id, ada)["replayed"] is False


def test_it_is_refused(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    with refused("forbidden", 403):
        label(world, event_id, uuid4())
    with refused("invalid_body", 400, "label: "):
        label(world, event_id, ada, "odd")
    with refused("invalid_body", 400, "note: "):
        label(world, event_id, ada, None, note=" ")
    with refused("event_not_found", 404):
        label(world, str(uuid4()), ada)
    with refused("own_event", 403):
        label(world, in_review(world, ada), ada)
    with refused("not_reviewable", 409):
        label(world, world.submit(world.user())["id"], ada)


def test_who_says_the_same_meanwhile_waits_and_says_it_once(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    first = world.session("tallybook_functions", autocommit=False)
    said = label(world, event_id, ada, through=first)
    with world.in_background(
        lambda session: label(world, event_id, ada, through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    assert second.result() == {**said, "replayed": True}
    assert world.count("points_review_notes") == 1


def test_how_often_a_rule_is_right(world: World, ada: UUID) -> None:
    fast = [spaced(world, world.user(), 0.5) for _ in range(3)]
    world.validate()
    slow = in_review(world)
    in_review(world)
    label(world, fast[0], ada, "confirmed_fraud")
    label(world, fast[1], ada, "confirmed_fraud")
    review(world, slow, ada, label="false_positive")
    assert precision(world) == {
        "spacing_under_one_second 1": (3, 2, 0, 1.0),
        "spacing_under_ten_seconds 1": (5, 2, 1, 0.667),
    }


def test_the_newest_label_counts(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    label(world, event_id, ada, "confirmed_fraud")
    label(world, event_id, ada, "false_positive")
    label(world, event_id, ada, None, note="It was a bus full of people")
    assert precision(world) == {"spacing_under_ten_seconds 1": (1, 0, 1, 0.0)}


def test_versions_of_a_rule_are_told_apart_and_shadows_counted(world: World, ada: UUID) -> None:
    in_review(world)
    world.operator.execute(
        "update trust_rules set mode = 'shadow' where rule_id = 'spacing_under_ten_seconds'"
    )
    event_id = spaced(world, world.user(), 5)
    world.validate()
    label(world, event_id, ada, "confirmed_fraud")
    assert precision(world) == {
        "spacing_under_ten_seconds 1": (1, 0, 0, None),
        "spacing_under_ten_seconds 2": (1, 1, 0, 1.0),
    }

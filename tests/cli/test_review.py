"""`tallybook review`: what waits is shown with its reasons, decided once, and labelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.cli.conftest import Run
from tests.world import NOW, World


def waiting(world: World, user: UUID) -> str:
    """A habit that came five seconds after another, so that a person has to look."""
    at = world.now() - timedelta(hours=world.count("points_events") + 1)
    world.submit(user, at=at)
    event: str = world.submit(user, at=at + timedelta(seconds=5))["id"]
    world.validate()
    assert world.status(event) == "pending_review"
    return event


@pytest.fixture
def user(world: World) -> UUID:
    world.freeze(NOW)
    return world.user()


def test_the_list_says_why(operate: Run, world: World, user: UUID) -> None:
    first, second = waiting(world, user), waiting(world, world.user())
    events = operate("review", "list", "--json").json["events"]
    assert [event["event_id"] for event in events] == [first, second]
    hits = {hit["rule"]: hit for hit in events[0]["hits"]}
    assert hits["spacing_under_ten_seconds"]["observed"] == 5
    assert hits["spacing_under_ten_seconds"]["below"] == 10
    told = operate("review", "list", "--limit", "1", env={"COLUMNS": "100"}).output
    assert first in told and str(user) in told and "spacing_under_ten_seconds" in told
    assert second not in told
    assert operate("review", "list", "--status", "flagged", "--json").json["events"] == []


def test_one_event_is_shown_whole(operate: Run, world: World, user: UUID) -> None:
    event = waiting(world, user)
    shown = operate("review", "show", event, "--json").json
    assert (shown["status"], shown["verdict"], shown["review"]) == (
        "pending_review", "pending_review", None,
    )  # fmt: skip
    assert len(shown["insights"]) == 1
    operate("review", "approve", event, "--reason", "A double tap", "--label", "false_positive")
    shown = operate("review", "show", event, "--json").json
    assert (shown["review"]["decision"], shown["review"]["reviewed_by"]) == (
        "approved", "op@example.org",
    )  # fmt: skip
    assert [note["label"] for note in shown["review_notes"]] == ["false_positive"]
    assert operate("review", "show", event).code == 0
    # What a hand has written was never judged, and is found all the same.
    world.award(user, 5)
    by_hand = str(world.value("select id from points_events where proof_type = 'manual_admin'"))
    assert operate("review", "show", by_hand, "--json").json["event_type"] == "admin_award"
    assert operate("review", "show", str(uuid4())).code == 1


def test_approving_lets_it_count(operate: Run, world: World, user: UUID) -> None:
    event, before = waiting(world, user), world.points(user)
    tried = operate("review", "approve", event, "--reason", "Fine", "--dry-run", "--json").json
    assert tried["events"][0]["points_awarded"] == 10
    assert (world.points(user), world.status(event)) == (before, "pending_review")
    assert operate("review", "approve", event, "--reason", "Fine").code == 0
    assert (world.points(user), world.status(event)) == (before + 10, "validated")


def test_several_are_decided_each_by_itself(operate: Run, world: World, user: UUID) -> None:
    first, second, nobodys = waiting(world, user), waiting(world, world.user()), str(uuid4())
    done = operate("review", "reject", first, nobodys, second, "--reason", "A bot", "--json")
    assert done.code == 1
    told = {row["event_id"]: row.get("refusal", {}).get("code") for row in done.json["events"]}
    assert told == {first: None, nobodys: "event_not_found", second: None}
    assert [world.status(event) for event in (first, second)] == ["rejected", "rejected"]


def test_the_second_person_comes_too_late(operate: Run, world: World, user: UUID) -> None:
    event = waiting(world, user)
    operate("review", "approve", event, "--reason", "Fine")
    other = ("--reason", "No", "--actor", "eve@example.org", "--json")
    done = operate("review", "reject", event, *other)
    assert done.code == 1
    assert done.json["events"][0]["refusal"]["code"] == "already_reviewed"
    assert operate("review", "approve", event, "--reason", " ").code == 1
    assert operate("review", "approve", event).code == 2


def test_a_large_award_is_approved_by_somebody_else(operate: Run, world: World, user: UUID) -> None:
    award: dict[str, Any] = operate(
        "award", str(user), "20000", "--reason", "The jackpot", "--json"
    ).json
    listed = operate("review", "list").output
    assert award["event_id"] in listed and "op@example.org" in listed
    assert operate("review", "approve", award["event_id"], "--reason", "Mine").code == 1
    second = ("--reason", "Seen", "--actor", "eve@example.org")
    assert operate("review", "approve", award["event_id"], *second).code == 0
    assert world.points(user) == 20000


def test_labels_make_precision(operate: Run, world: World, user: UUID) -> None:
    event = waiting(world, user)
    operate("review", "reject", event, "--reason", "A bot")
    tried = operate("review", "label", event, "confirmed_fraud", "--dry-run", "--json").json
    assert tried["label"] == "confirmed_fraud"
    assert world.count("points_review_notes") == 0
    labelled = operate("review", "label", event, "confirmed_fraud", "--note", "Seen again")
    assert labelled.code == 0
    rules = operate("review", "precision", "--json").json["rules"]
    assert {"rule_id": "spacing_under_ten_seconds", "precision": 1}.items() <= rules[0].items()
    assert operate("review", "precision").code == 0
    assert operate("review", "label", str(uuid4()), "confirmed_fraud").code == 1
    assert operate("review", "label", event, "nonsense").code == 2


def test_insights_are_listed_and_resolved_once(operate: Run, world: World, user: UUID) -> None:
    waiting(world, user)
    (insight,) = operate("review", "insights", "--open", "--json").json["insights"]
    identity = insight["insight_id"]
    assert operate("review", "resolve", identity, "--notes", "Asked them", "--dry-run").code == 0
    assert identity in operate("review", "insights", "--open").output
    assert operate("review", "resolve", identity, "--notes", "Asked them").code == 0
    late = operate("review", "resolve", identity, "--notes", "Other", "--json")
    assert (late.code, late.json["refusal"]["code"]) == (1, "already_resolved")
    assert operate("review", "insights", "--open", "--json").json["insights"] == []
    assert len(operate("review", "insights", "--user", str(user), "--json").json["insights"]) == 1
    assert identity in operate("review", "insights", "--user", str(user)).output

"""Reviewing: a person decides what the judge left open, once, with a reason, never their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.trust.court import HOUR_AGO, administrator, audited, in_review, review, spaced
from tests.world import NOW, Connection, World, code_of, refused


@pytest.fixture
def ada(world: World) -> UUID:
    return administrator(world)


def awarded(world: World, user: UUID, points: int, by: str) -> str:
    """An award that waits for a second administrator."""
    (row,) = world.rows(
        "insert into points_events (user_id, event_type, event_time, points_delta, proof_type,"
        " validation_status, validated_by)"
        " values (%s, 'admin_award', internal.clock(), %s, 'manual_admin', 'pending_review', %s)"
        " returning id",
        (user, points, by),
        through=world.operator,
    )
    world.refresh(user)
    return str(row["id"])


def test_approving_posts_the_points_and_closes_the_case(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = in_review(world, user)
    world.pass_time(timedelta(hours=1))
    assert review(world, event_id, ada, reason="Two habits at once", request_id="r-1") == {
        "event_id": event_id,
        "user_id": str(user),
        "decision": "approved",
        "validation_status": "validated",
        "points_awarded": 10,
        "trust_score": 50,
        "reviewed_by": "ada@example.org",
        "replayed": False,
    }
    assert world.cache(user) == (20, 0, 20, 0)
    assert world.points(user) == 20
    (event,) = world.rows("select * from points_events where id = %s", (event_id,))
    assert (event["validation_status"], event["validated_by"]) == ("validated", "ada@example.org")
    assert (event["validated_at"], event["updated_at"]) == (world.now(), world.now())
    assert str(event["transfer_id"]) == event_id
    assert event["trust_score"] == 50
    (written,) = world.rows("select * from points_reviews")
    assert (written["decision"], written["reason"]) == ("approved", "Two habits at once")
    assert (written["reviewer_id"], written["reviewed_by"]) == (ada, "ada@example.org")
    assert (written["reviewed_at"], written["request_id"]) == (world.now(), "r-1")
    (insight,) = world.rows("select * from fraud_insights")
    assert (insight["resolved"], insight["resolved_by"]) == (True, "ada@example.org")
    assert (insight["resolution_notes"], insight["resolved_at"]) == (
        "Two habits at once",
        world.now(),
    )
    (row,) = audited(world, "points_event.approved")
    assert (row["actor"], row["subject_type"]) == ("ada@example.org", "points_event")
    assert (row["subject_id"], row["reason"], row["request_id"]) == (
        event_id,
        "Two habits at once",
        "r-1",
    )
    assert row["before"]["validation_status"] == "pending_review"
    assert (row["after"]["validation_status"], row["after"]["points_awarded"]) == ("validated", 10)


def test_rejecting_lets_nothing_count(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = in_review(world, user)
    assert world.cache(user) == (10, 10, 10, 0)
    answer = review(world, event_id, ada, "rejected")
    assert (answer["validation_status"], answer["points_awarded"]) == ("rejected", 0)
    assert world.cache(user) == (10, 0, 10, 0)
    assert world.rows(
        "select validation_status, transfer_id, validated_at, validated_by from points_events"
        " where id = %s",
        (event_id,),
    ) == [
        {
            "validation_status": "rejected",
            "transfer_id": None,
            "validated_at": None,
            "validated_by": None,
        }
    ]
    # What was suspected was right, as far as anybody has said.
    assert world.count("fraud_insights", "not resolved") == 1
    assert len(audited(world, "points_event.rejected")) == 1


def test_approving_closes_no_other_case(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = in_review(world, user)
    in_review(world, user, at=HOUR_AGO - timedelta(hours=2))
    review(world, event_id, ada)
    assert world.count("fraud_insights", "not resolved") == 1


def test_an_approved_event_is_worth_what_it_is_worth_now(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = in_review(world, user)
    world.admin.execute(WORTH_TRIPLE)
    assert review(world, event_id, ada)["points_awarded"] == 30
    assert world.cache(user) == (40, 0, 40, 0)
    assert world.rows(
        "select points_delta, streak_days from points_events where id = %s", (event_id,)
    ) == [{"points_delta": 30, "streak_days": 90}]


def test_an_event_of_no_rule_is_worth_what_its_hand_wrote(world: World, ada: UUID) -> None:
    user = world.user()
    (row,) = world.rows(
        "insert into points_events (user_id, event_type, event_time, points_delta,"
        " validation_status) values (%s, 'goodwill', internal.clock(), 7, 'pending_review')"
        " returning id",
        (user,),
        through=world.operator,
    )
    world.refresh(user)
    assert review(world, str(row["id"]), ada)["points_awarded"] == 7
    assert world.cache(user) == (7, 0, 7, 0)


@pytest.mark.parametrize("decision", ["approved", "rejected"])
def test_the_same_reviewer_saying_it_again_changes_nothing(
    world: World, ada: UUID, decision: str
) -> None:
    user = world.user()
    event_id = in_review(world, user)
    first = review(world, event_id, ada, decision)
    before = world.cache(user)
    assert review(world, event_id, ada, decision) == {**first, "replayed": True}
    assert world.cache(user) == before
    assert (
        world.count("points_reviews") == world.count("audit_log", "action ~ '^points_event'") == 1
    )


def test_a_flagged_event_can_be_decided(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = in_review(world, user)
    world.operator.execute(
        "update points_events set validation_status = 'flagged' where id = %s", (event_id,)
    )
    assert review(world, event_id, ada)["validation_status"] == "validated"
    assert world.cache(user) == (20, 0, 20, 0)


def test_a_program_reviews_in_the_name_it_gives(world: World) -> None:
    event_id = in_review(world)
    answer = review(world, event_id, None, actor="support desk", through=world.operator)
    assert answer["reviewed_by"] == "support desk"
    assert world.value("select reviewer_id from points_reviews") is None


def test_a_review_may_say_what_it_was(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    review(world, event_id, ada, label="false_positive", reason="An offline phone")
    (note,) = world.rows("select * from points_review_notes")
    assert (note["label"], note["note"]) == ("false_positive", "An offline phone")
    assert (str(note["event_id"]), note["author"]) == (event_id, "ada@example.org")
    assert world.value("select label from points_reviews") == "false_positive"


# Refused


def test_only_an_active_administrator_decides(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    with refused("forbidden", 403):
        review(world, event_id, uuid4())
    world.operator.execute("update system_admins set is_active = false")
    with refused("forbidden", 403):
        # Before anything else is looked at.
        review(world, str(uuid4()), ada, "maybe", reason=None)
    assert world.status(event_id) == "pending_review"


@pytest.mark.parametrize("reason", [None, "", " \n"])
def test_a_decision_needs_a_reason(world: World, ada: UUID, reason: str | None) -> None:
    with refused("reason_required", 400, "reason: "):
        review(world, str(uuid4()), ada, reason=reason)


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"decision": "maybe"}, "decision: "),
        ({"decision": None}, "decision: "),
        ({"label": "x"}, "label: "),
    ],
)
def test_a_decision_is_one_of_two(
    world: World, ada: UUID, more: dict[str, Any], detail: str
) -> None:
    with refused("invalid_body", 400, detail):
        review(world, str(uuid4()), ada, **more)


def test_an_event_that_is_not_there(world: World, ada: UUID) -> None:
    with refused("event_not_found", 404):
        review(world, str(uuid4()), ada)


@pytest.mark.parametrize("decision", ["approved", "rejected"])
def test_nobody_decides_about_themselves(world: World, ada: UUID, decision: str) -> None:
    event_id = in_review(world, ada)
    with refused("own_event", 403):
        review(world, event_id, ada, decision)
    assert world.status(event_id) == "pending_review"


def test_nobody_approves_an_award_they_made(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = awarded(world, user, 20_000, by="ada@example.org")
    with refused("own_event", 403):
        review(world, event_id, ada)
    with refused("own_event", 403):
        review(world, event_id, None, actor="ada@example.org")
    bob = administrator(world, "bob@example.org")
    assert review(world, event_id, bob)["points_awarded"] == 20_000
    assert world.cache(user) == (20_000, 0, 20_000, 0)
    assert world.value("select validated_by from points_events") == "bob@example.org"


def test_whoever_made_an_award_may_take_it_back(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = awarded(world, user, 20_000, by="ada@example.org")
    assert review(world, event_id, ada, "rejected")["points_awarded"] == 0
    assert world.cache(user) == (0, 0, 0, 0)


def test_what_somebody_else_has_decided_stays_decided(world: World, ada: UUID) -> None:
    event_id = in_review(world)
    review(world, event_id, ada)
    with refused("already_reviewed", 409, "ada@example.org"):
        review(world, event_id, administrator(world, "bob@example.org"))
    with refused("already_reviewed", 409):
        review(world, event_id, ada, "rejected")
    for more in ({"reason": "On second thoughts"}, {"label": "false_positive"}):
        with refused("already_reviewed", 409, "ada@example.org"):
            review(world, event_id, ada, **more)


def test_what_waits_for_nobody_is_not_reviewed(world: World, ada: UUID) -> None:
    pending = world.submit(world.user())["id"]
    with refused("not_reviewable", 409):
        review(world, pending, ada)
    world.validate()
    with refused("not_reviewable", 409):
        review(world, pending, ada)
    rejected = spaced(world, world.user(), 0.5)
    world.validate()
    with refused("not_reviewable", 409):
        review(world, rejected, ada)


def test_a_deduction_that_no_longer_fits(world: World, ada: UUID) -> None:
    user = world.user(points=10)
    event_id = awarded(world, user, -50, by="op@example.org")
    with refused("insufficient_funds", 400):
        review(world, event_id, ada)
    assert world.status(event_id) == "pending_review"
    world.award(user, 45)
    review(world, event_id, ada)
    assert world.points(user) == 5


@pytest.mark.parametrize(
    "statement", ["update points_reviews set reason = 'x'", "delete from points_reviews"]
)
def test_a_review_stays(world: World, ada: UUID, statement: str) -> None:
    review(world, in_review(world), ada)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        world.admin.execute(statement)


# Races


def test_two_administrators_decide_one_event(world: World, ada: UUID) -> None:
    bob = administrator(world, "bob@example.org")

    def deciding(event_id: str, admin: UUID, decision: str) -> Any:
        return lambda session: review(world, event_id, admin, decision, through=session)

    for number in range(20):
        user = world.user()
        event_id = in_review(world, user, at=NOW - timedelta(hours=number + 1))
        second = "approved" if number % 2 else "rejected"
        results = world.at_once(
            [deciding(event_id, ada, "approved"), deciding(event_id, bob, second)]
        )
        won = [r for r in results if isinstance(r, dict)]
        lost = [code_of(r) for r in results if not isinstance(r, dict)]
        assert (len(won), lost) == (1, ["already_reviewed"])
        earned = won[0]["points_awarded"]
        assert world.cache(user) == (10 + earned, 0, 10 + earned, 0)
    assert world.count("points_reviews") == 20


def test_the_same_administrator_twice_at_once(world: World, ada: UUID) -> None:
    user = world.user()
    event_id = in_review(world, user)

    def approve(session: Connection) -> Any:
        return review(world, event_id, ada, through=session)

    results = world.at_once([approve] * 4)
    assert sorted(r["replayed"] for r in results if isinstance(r, dict)) == [
        False,
        True,
        True,
        True,
    ]
    assert world.cache(user) == (20, 0, 20, 0)


WORTH_TRIPLE = """
create or replace function internal.points_awarded(p_events public.points_events[])
returns table (event_id uuid, streak_days int, points int)
language plpgsql stable set search_path = '' as $$
begin
  return query select e.id, 90, e.points_delta * 3 from unnest(p_events) as e;
end $$
"""

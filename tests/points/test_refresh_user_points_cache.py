"""Refreshing: the cache becomes what the ledger says, after what a hand has validated is posted."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.world import NOW, World


def test_a_new_user_has_nothing(world: World) -> None:
    user = uuid4()
    assert world.refresh(user) == 0
    assert world.cache(user) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "breakage",
    [
        "update user_points_cache set available_points = 999999",
        "update user_points_cache set pending_points = -5",
        "update user_points_cache set lifetime_earned = 0, lifetime_spent = 7",
        "update user_points_cache set last_event_id = gen_random_uuid()",
        "delete from user_points_cache",
    ],
)
def test_a_broken_cache_row_is_repaired(world: World, breakage: str) -> None:
    user = world.user(points=500)
    world.redeem(user, world.template(cost=200))
    world.submit(user, event_type="workout")
    last = world.value("select points_event_id from coupons")
    assert world.cache(user) == (300, 20, 500, 200)
    world.admin.execute(breakage)
    assert world.refresh(user) == 300
    assert world.cache(user) == (300, 20, 500, 200)
    assert world.value("select last_event_id from user_points_cache") == last


def test_a_second_refresh_changes_nothing(world: World) -> None:
    world.freeze()
    user = world.user(points=500)
    before = world.rows("select * from user_points_cache")
    assert world.refresh(user) == 500
    assert world.rows("select * from user_points_cache") == before
    assert world.count("ledger.transfers") == 1


def test_an_award_by_hand_is_posted(world: World) -> None:
    # As the seed's runbook writes it, word for word but for the names in brackets.
    user = world.user()
    world.operator.execute(
        f"""
        INSERT INTO points_events (
          user_id, event_type, event_time, points_delta,
          proof_type, validation_status, validated_by
        ) VALUES (
          '{user}', 'admin_award', now(), 100,
          'manual_admin', 'validated', 'ops@example.org'
        );
        """
    )
    assert (
        world.value(f"SELECT refresh_user_points_cache('{user}');", through=world.operator) == 100
    )
    (event,) = world.rows("select * from points_events")
    assert (event["validated_by"], event["transfer_id"]) == ("ops@example.org", event["id"])
    assert event["validated_at"] is not None
    assert len(event["payload_hash"]) == 64
    (transfer,) = world.rows("select * from ledger.transfers")
    assert (transfer["transfer_id"], transfer["amount"]) == (event["id"], 100)
    assert transfer["effective_at"] == event["event_time"]
    assert world.points(user) == 100


def test_two_equal_awards_at_one_moment_are_two_awards(world: World) -> None:
    world.freeze()
    user = world.user()
    world.write_by_hand(user, 100)
    world.write_by_hand(user, 100)
    assert world.refresh(user) == 200


def test_a_deduction_by_hand_is_posted(world: World) -> None:
    user = world.user(points=100)
    assert world.award(user, -30, "admin_deduction") == 70
    assert world.cache(user) == (70, 0, 100, 30)


def test_a_deduction_of_more_than_there_is_waits_for_room_with_a_warning(world: World) -> None:
    user, warnings = world.user(points=100), list[tuple[str | None, str | None]]()
    world.operator.add_notice_handler(
        lambda notice: warnings.append((notice.severity_nonlocalized, notice.message_primary))
    )
    world.write_by_hand(user, 50)
    world.write_by_hand(user, -151, "admin_deduction")
    deduction = world.value("select id from points_events where points_delta < 0")
    for _ in range(2):
        assert world.refresh(user) == 150
        # It is told each time, and no balance hides it.
        assert warnings == [("WARNING", f"event {deduction} takes more than the user has")]
        warnings.clear()
        assert world.cache(user) == (150, 0, 150, 0)
        assert [row["book_id"] for row in world.discrepancies()] == [user]
    assert world.count("points_events", "transfer_id is null") == 1
    world.write_by_hand(user, 1)
    assert world.refresh(user) == 0
    assert (warnings, world.discrepancies()) == ([], [])
    assert world.cache(user) == (0, 0, 151, 151)


def test_a_mistake_is_mended_by_the_opposite_event(world: World) -> None:
    """As the runbook has it: somebody took 500 from 50, and gives 480 back."""
    user = world.user(points=50)
    world.write_by_hand(user, -500, "admin_deduction")
    world.write_by_hand(user, 480)
    assert world.refresh(user) == 30
    assert world.cache(user) == (30, 0, 530, 500)


def test_of_several_deductions_those_that_fit_are_posted(world: World) -> None:
    user = world.user(points=100)
    for points in (-30, -90, -50):
        world.write_by_hand(user, points, "admin_deduction")
    assert world.refresh(user) == 20
    assert world.rows("select points_delta from points_events where transfer_id is null") == [
        {"points_delta": -90}
    ]
    world.write_by_hand(user, 70)
    assert world.refresh(user) == 0


def test_one_users_mistake_does_not_hold_up_the_others(world: World) -> None:
    # The seed's bulk form, as it stands there.
    users = [world.user(points=10) for _ in range(3)]
    for user, points in zip(users, (5, -11, 5), strict=True):
        world.write_by_hand(user, points, "admin_award" if points > 0 else "admin_deduction")
    rows = world.rows(
        "SELECT user_id, refresh_user_points_cache(user_id) FROM user_points_cache;",
        through=world.operator,
    )
    refreshed = {row["user_id"]: row["refresh_user_points_cache"] for row in rows}
    assert refreshed == dict(zip(users, (15, 10, 15), strict=True))
    assert [world.points(user) for user in users] == [15, 10, 15]
    world.award(users[1], 1)


def test_what_is_written_by_hand_is_posted_in_the_order_of_its_time(world: World) -> None:
    world.freeze()
    user = world.user()
    world.write_by_hand(user, 100)
    world.freeze(NOW + timedelta(seconds=1))
    world.write_by_hand(user, -100, "admin_deduction")
    assert world.refresh(user) == 0


def test_an_event_validated_by_hand_is_posted(world: World) -> None:
    user = world.user()
    event_id = world.submit(user, event_type="goal_achieved")["id"]
    world.operator.execute(
        "update points_events set validation_status = 'validated', validated_by = 'ops'"
    )
    assert world.refresh(user) == 50
    assert world.cache(user) == (50, 0, 50, 0)
    assert str(world.value("select transfer_id from points_events")) == event_id


@pytest.mark.parametrize(
    ("status", "pending"),
    [("validating", 20), ("pending_review", 20), ("flagged", 20), ("rejected", 0)],
)
def test_an_event_waits_until_it_is_decided(world: World, status: str, pending: int) -> None:
    user = world.user()
    world.submit(user, event_type="workout")
    world.operator.execute(f"update points_events set validation_status = '{status}'")
    world.refresh(user)
    assert world.cache(user) == (0, pending, 0, 0)


def test_the_worker_and_the_service_refresh_as_well(world: World) -> None:
    user = world.user(points=100)
    assert world.refresh(user, through=world.worker) == 100
    with world.admin.transaction():
        world.admin.execute("set local role service_role")
        assert world.refresh(user, through=world.admin) == 100


def test_all_users_are_refreshed_in_one_statement(world: World) -> None:
    # The seed's bulk form, as it stands there.
    users = [world.user(points=points) for points in (10, 20, 30)]
    for user in users:
        world.write_by_hand(user, 5)
    world.admin.execute("update user_points_cache set available_points = 77, pending_points = 7")
    rows = world.rows(
        "SELECT user_id, refresh_user_points_cache(user_id) FROM user_points_cache;",
        through=world.operator,
    )
    refreshed = {row["user_id"]: row["refresh_user_points_cache"] for row in rows}
    assert refreshed == dict(zip(users, (15, 25, 35), strict=True))
    assert [world.cache(user) for user in users] == [
        (15, 0, 15, 0),
        (25, 0, 25, 0),
        (35, 0, 35, 0),
    ]


def test_a_refresh_loses_no_event_that_is_being_submitted(world: World) -> None:
    user = world.user()
    world.submit(user)
    submitting = world.session("tallybook_functions", autocommit=False)
    world.submit(user, event_type="workout", through=submitting)
    with world.in_background(
        lambda session: world.refresh(user, through=session),
        world.session("tallybook_worker"),
    ):
        submitting.commit()
    assert world.cache(user) == (0, 30, 0, 0)


def test_a_refresh_loses_no_event_that_is_being_validated(world: World) -> None:
    user = world.user()
    world.submit(user)
    validating = world.session("tallybook_worker", autocommit=False)
    world.validate(through=validating)
    with world.in_background(
        lambda session: world.refresh(user, through=session),
        world.session("tallybook_worker"),
    ) as refreshing:
        validating.commit()
    assert refreshing.result() == 10
    assert world.cache(user) == (10, 0, 10, 0)


def test_a_refresh_loses_no_redemption(world: World) -> None:
    user, template = world.user(points=500), world.template(cost=200)
    redeeming = world.session("tallybook_functions", autocommit=False)
    world.redeem(user, template, through=redeeming)
    with world.in_background(
        lambda session: world.refresh(user, through=session),
        world.session("tallybook_worker"),
    ) as refreshing:
        redeeming.commit()
    assert refreshing.result() == 300
    assert world.cache(user) == (300, 0, 500, 200)


def test_two_refreshes_post_an_award_once(world: World) -> None:
    user = world.user()
    world.write_by_hand(user, 100)
    first = world.session("tallybook_worker", autocommit=False)
    assert world.refresh(user, through=first) == 100
    with world.in_background(
        lambda session: world.refresh(user, through=session),
        world.session("tallybook_worker"),
    ) as second:
        first.commit()
    assert second.result() == 100
    assert world.count("ledger.transfers") == 1

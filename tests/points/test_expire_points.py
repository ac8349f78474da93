"""Points that are not spent in time expire: first earned, first spent, and only what is left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.world import NOW, Connection, World

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()


def keep_for(world: World, days: int | None, program: str = "standard") -> None:
    """Set for how long points keep, as an operator does."""
    world.operator.execute(
        "update points_programs set expires_after_days = %s where program = %s", (days, program)
    )


def expire(world: World, limit: int = 1000, through: Connection | None = None) -> int:
    """The points that upkeep takes back now."""
    answer = world.call("public.expire_points", {"limit": limit}, through or world.worker)
    return int(answer["points"])


def schedule(world: World, user: UUID) -> list[tuple[str, int]]:
    """What expires when, as the user is told."""
    lots = world.call("public.points_schedule", {"user_id": user}, world.functions)["lots"]
    return [(lot["expires_at"][:10], lot["points"]) for lot in lots]


def test_without_a_policy_nothing_expires(world: World) -> None:
    user = world.user(points=100)
    world.pass_time(4000 * DAY)
    assert (expire(world), world.points(user), schedule(world, user)) == (0, 100, [])


def test_what_is_left_of_the_oldest_expires(world: World) -> None:
    keep_for(world, 90)
    user, template = world.user(points=100), world.template(cost=60)
    world.pass_time(10 * DAY)
    world.award(user, 50)
    world.redeem(user, template)
    assert schedule(world, user) == [("2026-05-31", 40), ("2026-06-10", 50)]
    world.pass_time(80 * DAY)
    assert expire(world) == 40
    assert world.points(user) == 50
    assert world.cache(user) == (50, 0, 150, 100)
    assert schedule(world, user) == [("2026-06-10", 50)]
    world.pass_time(10 * DAY)
    assert (expire(world), expire(world)) == (50, 0)
    assert (world.points(user), schedule(world, user)) == (0, [])


def test_an_expiry_is_an_event_that_names_its_lot(world: World) -> None:
    keep_for(world, 1)
    user = world.user(points=30)
    lot = world.value("select id from points_events")
    world.pass_time(DAY)
    expire(world)
    (event,) = world.rows("select * from points_events where event_type = 'points_expiry'")
    assert (event["points_delta"], event["validation_status"]) == (-30, "validated")
    assert (event["related_entity_type"], event["related_entity_id"]) == ("points_event", lot)
    (transfer,) = world.rows(
        "select * from ledger.transfers where transfer_id = %s", (event["transfer_id"],)
    )
    assert (transfer["from_account"], transfer["to_account"]) == ("points", "points.expired")
    assert transfer["book_id"] == user


def test_not_a_moment_too_early(world: World) -> None:
    keep_for(world, 1)
    world.user(points=30)
    world.pass_time(DAY - timedelta(microseconds=1))
    assert expire(world) == 0
    world.pass_time(timedelta(microseconds=1))
    assert expire(world) == 30


def test_each_program_has_its_own_time_and_the_oldest_are_still_spent_first(world: World) -> None:
    world.operator.execute(
        "insert into points_programs (program, expires_after_days) values ('campaign', 10)"
    )
    world.operator.execute(
        "update points_rules set program = 'campaign' where event_type = 'workout'"
    )
    user, template = world.user(points=100), world.template(cost=100)
    world.validate(world.submit(user, event_type="workout")["id"])  # 20, for ten days
    world.redeem(user, template)  # takes the 100, which never expire
    assert schedule(world, user) == [("2026-03-12", 20)]
    world.pass_time(10 * DAY)
    assert (expire(world), world.points(user)) == (20, 0)
    world.award(user, 70)
    world.pass_time(500 * DAY)
    assert (expire(world), world.points(user)) == (0, 70)


def test_what_is_held_is_not_taken(world: World) -> None:
    keep_for(world, 1)
    user = world.user(points=30)
    hold = "select ledger.hold(%s, %s, 'points', 20, 'test', %s, %s)"
    world.admin.execute(hold, (user, user, user, NOW + 9 * DAY))
    world.pass_time(DAY)
    assert (expire(world), world.points(user)) == (10, 0)
    world.admin.execute("select ledger.release(%s, %s)", (user, user))
    assert world.points(user) == 20
    world.pass_time(DAY)
    assert (expire(world), world.points(user)) == (20, 0)


def test_a_shorter_time_counts_for_what_was_earned_before(world: World) -> None:
    keep_for(world, 1000)
    users = [world.user(points=10) for _ in range(5)]
    assert expire(world) == 0
    world.pass_time(50 * DAY)
    assert expire(world) == 0
    keep_for(world, 50)
    # The walk through everybody goes two at a time here.
    assert [expire(world, limit=2) for _ in range(4)] == [20, 20, 10, 0]
    assert {world.points(user) for user in users} == {0}


def test_upkeep_looks_at_nobody_before_their_time(world: World) -> None:
    keep_for(world, 30)
    user = world.user(points=10)
    expire(world)
    world.pass_time(29 * DAY)
    looked = world.call("public.expire_points", {}, world.worker)["expired"]
    assert (looked, world.points(user)) == (0, 10)
    world.pass_time(DAY)
    assert world.call("public.expire_points", {}, world.worker) == {"expired": 1, "points": 10}


def test_spending_and_expiring_at_once_take_it_once(world: World) -> None:
    keep_for(world, 1)
    template = world.template(cost=100, limit=None)
    users = [world.user(points=100) for _ in range(10)]
    world.pass_time(DAY)

    def run_out(session: Connection) -> Any:
        return expire(world, through=session)

    spend = [lambda s, u=u: world.redeem(u, template, through=s) for u in users]  # type: ignore[misc]
    world.at_once([*spend, run_out, run_out], user="postgres")
    assert expire(world) == 0
    assert {world.points(user) for user in users} == {0}
    assert (
        world.count("coupons") + world.count("points_events", "event_type = 'points_expiry'") == 10
    )


def test_the_schedule_of_everybody(world: World) -> None:
    keep_for(world, 7)
    user = world.user(points=10)
    world.user()
    (row,) = world.rows("select * from points_expiry_schedule", through=world.operator)
    assert (row["user_id"], row["points"], row["expires_at"]) == (user, 10, NOW + 7 * DAY)
    assert (row["program"], row["event_type"]) == ("standard", "admin_award")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_a_day_has_24_hours_in_whatever_zone_somebody_looks(world: World, zone: str) -> None:
    """In March the clocks of the others are put forward."""
    keep_for(world, 30)
    user = world.user(points=100)
    world.admin.execute(f"set timezone = '{zone}'")
    expires = "select expires_at from internal.earned_lots(array[%s])"
    assert world.value(expires, (user,)) == NOW + 30 * DAY

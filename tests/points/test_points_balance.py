"""points_balance: one user's own points, from the ledger."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from tests.world import World


def test_it_tells_what_there_is_to_spend_and_what_waits(world: World) -> None:
    user = world.user(points=500)
    world.submit(user, event_type="workout")
    world.redeem(user, world.template(cost=120))
    world.admin.execute(
        "select ledger.hold(%s, %s, 'points', 80, 'test', %s, %s)",
        (user, uuid4(), uuid4(), world.now() + timedelta(hours=1)),
    )
    balance = world.call("public.points_balance", {"user_id": user}, world.functions)
    assert balance == {
        "available_points": 300,
        "held_points": 80,
        "pending_points": 20,
        "lifetime_earned": 500,
        "lifetime_spent": 120,
    }


def test_whoever_has_nothing_has_nothing(world: World) -> None:
    world.user(points=500)
    balance = world.call("public.points_balance", {"user_id": uuid4()}, world.functions)
    assert set(balance.values()) == {0}


def test_it_does_not_believe_the_cache(world: World) -> None:
    user = world.user(points=500)
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("update user_points_cache set available_points = 999999")
        answer = world.call("public.points_balance", {"user_id": user}, world.admin)
        assert answer["available_points"] == 500

"""`tallybook refresh-cache` mends cached balances, `tallybook balance` shows the ledger's."""

from __future__ import annotations

from uuid import uuid4

from tests.cli.conftest import Run
from tests.world import World


def test_it_mends_the_users_it_is_given(operate: Run, world: World) -> None:
    user = world.user(points=100)
    world.admin.execute("update user_points_cache set available_points = 1")
    (row,) = operate("refresh-cache", str(user), "--json").json["users"]
    assert (row["cached_points"], row["available_points"]) == (1, 100)
    assert world.cache(user)[0] == 100


def test_all_means_everybody(operate: Run, world: World) -> None:
    users = [world.user(points=100) for _ in range(3)]
    world.admin.execute("update user_points_cache set available_points = 1")
    assert operate("refresh-cache", "--all").code == 0
    assert [world.cache(user)[0] for user in users] == [100, 100, 100]


def test_all_means_whoever_a_hand_has_just_given_points_too(operate: Run, world: World) -> None:
    user = world.user()
    world.write_by_hand(user, 100)
    assert world.cache(user) is None
    assert operate("refresh-cache", "--all").code == 0
    assert world.points(user) == world.cache(user)[0] == 100


def test_a_dry_run_changes_nothing(operate: Run, world: World) -> None:
    user = world.user(points=100)
    world.admin.execute("update user_points_cache set available_points = 1")
    (row,) = operate("refresh-cache", str(user), "--dry-run", "--json").json["users"]
    assert (row["cached_points"], row["available_points"]) == (1, 100)
    assert world.cache(user)[0] == 1
    world.refresh(user)


def test_what_cannot_be_posted_is_code_1_and_others_are_done(operate: Run, world: World) -> None:
    poor, other = world.user(), world.user(points=100)
    world.write_by_hand(poor, -5, "admin_deduction")
    world.admin.execute("update user_points_cache set available_points = 1")
    done = operate("refresh-cache", str(poor), str(other), "--json")
    assert done.code == 1
    left, whole = done.json["users"]
    assert (left["available_points"], left["refused"]) == (0, "insufficient_funds")
    assert "refused" not in whole
    assert world.cache(other)[0] == 100
    assert operate("refresh-cache", "--all").code == 1
    # An opposite event makes it affordable.
    world.write_by_hand(poor, 5)
    assert operate("refresh-cache", str(poor)).code == 0


def test_it_wants_to_know_whom(operate: Run) -> None:
    assert operate("refresh-cache").code == 2
    assert operate("refresh-cache", "--all", str(uuid4())).code == 2


def test_the_balance_is_the_ledgers(operate: Run, world: World) -> None:
    user = world.user(points=100)
    world.submit(user)
    world.admin.execute("update user_points_cache set available_points = 1")
    shown = operate("balance", str(user), "--json").json
    assert (shown["available_points"], shown["pending_points"]) == (100, 10)
    world.refresh(user)


def test_somebody_unknown_has_nothing(operate: Run) -> None:
    assert operate("balance", str(uuid4()), "--json").json["available_points"] == 0

"""Nonces past their time are forgotten; what they caused is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.world import World, refused


def cleanup(world: World, **arguments: Any) -> int:
    answer = world.call("public.cleanup_expired_nonces", arguments, world.worker)
    return int(answer["removed"])


def test_expired_nonces_are_removed_and_others_stay(world: World) -> None:
    world.freeze()
    user = world.user()
    world.submit(user, nonce="old")
    world.pass_time(timedelta(days=3))
    world.submit(user, nonce="new")
    world.pass_time(timedelta(days=4))
    assert cleanup(world) == 1
    assert world.count("used_nonces", "expires_at <= internal.clock()") == 0
    assert world.count("used_nonces", "nonce = 'new'") == 1


def test_a_second_run_finds_nothing(world: World) -> None:
    world.freeze()
    world.submit(world.user())
    world.pass_time(timedelta(days=7))
    assert [cleanup(world), cleanup(world)] == [1, 0]


def test_it_removes_no_more_than_it_is_told_and_the_oldest_first(world: World) -> None:
    world.freeze()
    for nonce in ("first", "second", "third"):
        world.submit(world.user(), nonce=nonce)
        world.pass_time(timedelta(minutes=1))
    world.pass_time(timedelta(days=7))
    assert cleanup(world, limit=2) == 2
    assert world.value("select nonce from used_nonces") == "third"


def test_the_same_submission_is_still_a_replay(world: World) -> None:
    world.freeze()
    event = world.event(user := world.user())
    first = world.submit(user, **event)
    world.pass_time(timedelta(days=8))
    assert cleanup(world) == 1
    again = world.submit(user, **event)
    assert (again["id"], again["replayed"]) == (first["id"], True)


def test_a_nonce_somebody_holds_is_left_for_the_next_run(world: World) -> None:
    world.freeze()
    world.submit(world.user(), nonce="held")
    world.submit(world.user(), nonce="free")
    world.pass_time(timedelta(days=8))
    holder = world.session(autocommit=False)
    holder.execute("select from used_nonces where nonce = 'held' for update")
    assert cleanup(world) == 1
    holder.rollback()
    assert cleanup(world) == 1


def test_the_functions_may_not_clean(world: World) -> None:
    try:
        world.call("public.cleanup_expired_nonces", {}, world.functions)
    except Exception as error:
        assert getattr(error, "sqlstate", None) == "42501"
    else:
        raise AssertionError


def test_within_its_time_a_nonce_refuses_another_payload(world: World) -> None:
    world.freeze()
    user = world.user()
    world.submit(user, nonce="one")
    cleanup(world)
    with refused("nonce_reused", 409):
        world.submit(user, nonce="one", event_type="workout")

"""A coupon is held for one purchase: nobody else uses it, and it comes free by itself."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.coupons.test_consume_coupon import answers
from tests.coupons.till import NOT_VALID, Till
from tests.world import NOW, World, refused


def test_a_coupon_is_held(till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    answer = till.hold(member, coupon, "cart-1", request_id="r-1")
    assert answer == {
        "coupon_id": str(coupon.id),
        "status": "held",
        "held_until": "2026-03-02T09:10:00+00:00",
        "replayed": False,
    }
    row = till.row(coupon)
    assert (row["status"], row["held_until"]) == ("held", NOW + timedelta(minutes=10))
    assert (row["held_by"], row["hold_key"], row["request_id"]) == (str(member), "cart-1", "r-1")


def test_holding_again_is_the_same_hold(world: World, till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    first = till.hold(member, coupon, "cart-1")
    world.pass_time(timedelta(minutes=5))
    again = till.hold(member, coupon, "cart-1", hold_seconds=3600)
    assert again == {**first, "replayed": True}
    assert till.failures() == {}


def test_nobody_else_gets_a_coupon_that_is_held(till: Till) -> None:
    coupon, member, other = till.coupon(), till.member(), till.member()
    till.hold(member, coupon, "cart-1")
    for show in till.everything().values():
        assert show(other, coupon) == show(None, coupon) == NOT_VALID
    # Who holds it learns that it was for another purchase.
    with refused("coupon_held", 409, "idempotency_key: "):
        till.hold(member, coupon, "cart-2")
    with refused("coupon_held", 409, "idempotency_key: "):
        till.consume(member, coupon, "cart-2")
    assert till.row(coupon)["hold_key"] == "cart-1"


def test_who_holds_it_uses_it(till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    till.hold(member, coupon, "cart-1")
    first = till.consume(member, coupon, "cart-1")
    assert (first["status"], first["replayed"]) == ("redeemed", False)
    assert till.row(coupon)["held_until"] is None
    assert till.consume(member, coupon, "cart-1") == {**first, "replayed": True}


def test_a_hold_lapses_by_itself(world: World, till: Till) -> None:
    coupon, member, other = till.coupon(), till.member(), till.member()
    till.hold(member, coupon, "cart-1", hold_seconds=60)
    world.pass_time(timedelta(seconds=60))
    assert till.hold(other, coupon, "cart-2")["replayed"] is False
    assert till.consume(member, coupon, "cart-1") == NOT_VALID
    assert till.consume(other, coupon, "cart-2")["replayed"] is False


def test_a_hold_that_lapsed_is_taken_anew_under_its_key(world: World, till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    till.hold(member, coupon, "cart-1", hold_seconds=60)
    world.pass_time(timedelta(hours=1))
    again = till.hold(member, coupon, "cart-1", hold_seconds=60)
    assert (again["held_until"], again["replayed"]) == ("2026-03-02T10:01:00+00:00", False)


def test_no_hold_outlasts_its_coupon(till: Till) -> None:
    coupon = till.coupon(days=1)
    answer = till.hold(None, coupon, hold_seconds=86_400)
    assert answer["held_until"] == "2026-03-03T09:00:00+00:00"


@pytest.mark.parametrize("seconds", [0, -1, 86_401, None])
def test_a_hold_lasts_from_a_second_to_a_day(till: Till, seconds: int | None) -> None:
    coupon = till.coupon()
    with refused("invalid_body", 400, "hold_seconds: "):
        till.hold(None, coupon, hold_seconds=seconds)
    assert till.row(coupon)["status"] == "issued"


def test_a_hold_has_a_holder_and_an_end(world: World, till: Till) -> None:
    till.coupon()
    with pytest.raises(psycopg.errors.CheckViolation):
        world.operator.execute("update coupons set status = 'held'")


# Letting go


def test_a_hold_is_released(till: Till) -> None:
    coupon, member, other = till.coupon(), till.member(), till.member()
    till.hold(member, coupon, "cart-1")
    answer = till.release(member, coupon, "cart-1")
    assert answer == {"coupon_id": str(coupon.id), "status": "issued", "replayed": False}
    assert till.release(member, coupon, "cart-1") == {**answer, "replayed": True}
    assert till.consume(other, coupon, "cart-2")["replayed"] is False


def test_what_is_not_held_under_this_key_is_not_released(world: World, till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    with refused("coupon_not_held", 409):
        till.release(member, coupon, "cart-1")
    till.hold(member, coupon, "cart-1", hold_seconds=60)
    with refused("coupon_not_held", 409):
        till.release(member, coupon, "cart-2")
    world.pass_time(timedelta(seconds=60))
    # It lapsed, whether or not upkeep has been there.
    with refused("coupon_not_held", 409):
        till.release(member, coupon, "cart-1")
    world.call("public.mark_expired_coupons", {}, world.worker)
    with refused("coupon_not_held", 409):
        till.release(member, coupon, "cart-1")


def test_what_was_released_and_is_held_by_another_is_not_released_again(till: Till) -> None:
    coupon, member, other = till.coupon(), till.member(), till.member()
    till.hold(member, coupon, "cart-1")
    till.release(member, coupon, "cart-1")
    till.hold(other, coupon, "cart-2")
    assert till.release(member, coupon, "cart-1") == NOT_VALID
    assert till.row(coupon)["held_by"] == str(other)


# At once


def test_of_twenty_that_hold_at_once_one_does(till: Till) -> None:
    coupon = till.coupon()
    members = [till.member() for _ in range(20)]
    results = till.world.at_once(
        [lambda s, m=m: till.hold(m, coupon, through=s) for m in members]  # type: ignore[misc]
    )
    assert answers(results) == {"first": 1, "coupon_not_valid": 19}


def test_of_holding_and_using_at_once_one_wins(till: Till) -> None:
    def try_once(one: UUID, two: UUID) -> str:
        coupon = till.coupon()
        held, used = till.world.at_once(
            [
                lambda s: till.hold(one, coupon, "cart-1", through=s),
                lambda s: till.consume(two, coupon, "cart-2", through=s),
            ]
        )
        status: str = till.row(coupon)["status"]
        assert (held, used).count(NOT_VALID) == 1
        assert (used if status == "held" else held) == NOT_VALID
        return status

    statuses = Counter(try_once(till.member(), till.member()) for _ in range(10))
    assert sum(statuses.values()) == 10


def test_who_waits_for_a_hold_that_is_given_up_uses_it(world: World, till: Till) -> None:
    coupon, one, two = till.coupon(), till.member(), till.member()
    first = world.session("tallybook_functions", autocommit=False)
    till.hold(one, coupon, through=first)
    with world.in_background(
        lambda session: till.consume(two, coupon, through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.rollback()
    assert second.result()["replayed"] is False

"""Whoever shows wrong codes is heard a few times, and then not even with a right one."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.coupons.till import NOT_VALID, Till, code_of_any_key
from tests.world import World

HOME = "2001:db8:1:2::1"


def guess(till: Till, who: UUID | None, times: int, **more: Any) -> list[Any]:
    return [till.verify(who, code_of_any_key(), **more) for _ in range(times)]


def limited(policy: str, quota: int, seconds: int) -> dict[str, Any]:
    return {
        "refusal": {
            "code": "rate_limited",
            "status": 429,
            "detail": f"coupon_failures_per_{policy}: {quota} in 900 s; again in {seconds} s",
            "hint": "Try again after the time given in Retry-After.",
        }
    }


@pytest.mark.parametrize("verb", ["verify", "consume", "hold", "release"])
def test_ten_wrong_codes_of_a_user_are_enough(world: World, till: Till, verb: str) -> None:
    coupon, member, show = till.coupon(), till.member(), till.everything()[verb]
    for _ in range(10):
        assert show(member, code_of_any_key()) == NOT_VALID
    world.pass_time(timedelta(minutes=5))
    # Over it even a right code is not heard, nor its owner's.
    assert show(member, coupon) == limited("user", 10, 600)
    assert till.row(coupon)["status"] == "issued"
    # Others are, and so is the same member when the time is over.
    assert till.verify(till.member(), coupon)["valid"] is True
    world.pass_time(timedelta(seconds=599.5))
    assert till.verify(member, coupon) == limited("user", 10, 1)
    world.pass_time(timedelta(seconds=0.5))
    assert till.verify(member, coupon)["valid"] is True


def test_its_owner_is_throttled_like_everybody(till: Till) -> None:
    coupon = till.coupon()
    guess(till, coupon.owner, 10)
    assert till.verify(coupon.owner, coupon) == limited("user", 10, 900)


def test_what_is_refused_for_its_number_counts_no_further(world: World, till: Till) -> None:
    who = uuid4()
    guess(till, who, 15)
    assert till.failures() == {("user", str(who)): 10}
    world.pass_time(timedelta(minutes=15))
    assert guess(till, who, 1) == [NOT_VALID]
    assert till.failures() == {("user", str(who)): 1}


def test_a_device_is_counted_over_its_users(till: Till) -> None:
    for _ in range(4):
        guess(till, uuid4(), 5, device_id="phone-1")
    assert guess(till, uuid4(), 1, device_id="phone-1") == [limited("device", 20, 900)]
    assert guess(till, uuid4(), 1, device_id="phone-2") == [NOT_VALID]


def test_an_address_is_counted_over_its_devices(till: Till) -> None:
    coupon = till.coupon()
    for n in range(10):
        guess(till, None, 5, ip_address="192.0.2.1", device_id=f"phone-{n}")
    # The service is no user, but it says where the code came from.
    assert till.verify(None, coupon, ip_address="192.0.2.1") == limited("address", 50, 900)
    assert till.verify(None, coupon, ip_address="192.0.2.2")["valid"] is True
    assert till.verify(None, coupon)["valid"] is True


def test_of_an_ipv6_address_the_network_is_counted(till: Till) -> None:
    guess(till, None, 1, ip_address=HOME)
    guess(till, None, 1, ip_address="2001:db8:1:2:ffff::9")
    guess(till, None, 1, ip_address="2001:db8:1:3::1")
    assert till.failures() == {
        ("address", "2001:db8:1:2::/64"): 2,
        ("address", "2001:db8:1:3::/64"): 1,
    }


def test_the_longest_wait_is_told(world: World, till: Till) -> None:
    who = uuid4()
    guess(till, who, 5)
    world.pass_time(timedelta(minutes=1))
    guess(till, who, 5, device_id="phone")
    guess(till, None, 15, device_id="phone")
    assert guess(till, who, 1, device_id="phone") == [limited("device", 20, 900)]
    assert guess(till, who, 1) == [limited("user", 10, 840)]


def test_a_right_code_forgives_nothing(till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    guess(till, member, 9)
    assert till.verify(member, coupon)["valid"] is True
    guess(till, member, 1)
    assert till.verify(member, coupon) == limited("user", 10, 900)


def test_of_thirty_guesses_at_once_ten_are_heard(till: Till) -> None:
    who = uuid4()
    results: list[Any] = till.world.at_once(
        [lambda s: till.verify(who, code_of_any_key(), through=s, device_id="d")] * 30
    )
    assert Counter(r["refusal"]["code"] for r in results) == {
        "coupon_not_valid": 10,
        "rate_limited": 20,
    }
    assert till.failures() == {("user", str(who)): 10, ("device", "d"): 10}


def test_many_users_of_one_address_at_once_are_all_counted(till: Till) -> None:
    results: list[Any] = till.world.at_once(
        [
            lambda s, n=n: till.consume(  # type: ignore[misc]
                uuid4(), code_of_any_key(), through=s, ip_address="192.0.2.1", device_id=f"d{n % 3}"
            )
            for n in range(60)
        ]
    )
    assert Counter(r["refusal"]["code"] for r in results) == {
        "coupon_not_valid": 50,
        "rate_limited": 10,
    }
    assert till.failures()["address", "192.0.2.1"] == 50


def test_a_guess_that_is_given_up_was_none(world: World, till: Till) -> None:
    who, session = uuid4(), world.session("tallybook_functions", autocommit=False)
    till.verify(who, code_of_any_key(), through=session)
    session.rollback()
    assert till.failures() == {}


def test_the_limits_are_settings_and_their_change_is_written_down(world: World, till: Till) -> None:
    world.operator.execute("update coupon_throttles set failures_max = 2 where scope = 'user'")
    who = uuid4()
    assert [a["refusal"]["code"] for a in guess(till, who, 3)] == [
        "coupon_not_valid",
        "coupon_not_valid",
        "rate_limited",
    ]
    (row,) = world.rows("select * from audit_log")
    assert (row["subject_type"], row["subject_id"]) == ("coupon_throttles", "user")
    assert (row["before"]["failures_max"], row["after"]["failures_max"]) == (10, 2)


def test_an_operator_sees_who_is_guessing(world: World, till: Till) -> None:
    busy, idle = uuid4(), uuid4()
    guess(till, busy, 6)
    guess(till, idle, 5)
    seen = "select scope, subject, failures, is_refused from internal.coupon_guessing"
    assert world.rows(seen, through=world.operator) == [
        {"scope": "user", "subject": str(busy), "failures": 6, "is_refused": False}
    ]
    guess(till, busy, 4)
    assert world.rows(seen, through=world.operator)[0]["is_refused"] is True
    world.pass_time(timedelta(minutes=15))
    assert world.rows(seen, through=world.operator) == []


def test_counts_whose_time_is_over_are_removed(world: World, till: Till) -> None:
    early = [uuid4() for _ in range(3)]
    for who in early:
        guess(till, who, 1)
    world.pass_time(timedelta(minutes=10))
    guess(till, late := uuid4(), 1)
    world.pass_time(timedelta(minutes=5))

    def clean(limit: int) -> Any:
        return world.call("public.cleanup_coupon_attempts", {"limit": limit}, world.worker)

    assert clean(2) == {"removed": 2}
    assert clean(2) == {"removed": 1}
    assert clean(2) == {"removed": 0}
    assert till.failures() == {("user", str(late)): 1}

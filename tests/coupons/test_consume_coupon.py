"""A coupon is used once, at its partner's till."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.coupons.till import NOT_VALID, Till
from tests.world import NOW, World, code_of, refused


def answers(results: list[Any]) -> Counter[str]:
    """What each of several at once was told."""
    return Counter(
        code_of(r)
        if isinstance(r, Exception)
        else r["refusal"]["code"]
        if "refusal" in r
        else "replayed"
        if r["replayed"]
        else "first"
        for r in results
    )


def test_a_coupon_is_used(world: World, till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    proof = {"receipt": "R-17"}
    answer = till.consume(member, coupon, "till-1", redemption_proof=proof, request_id="r-1")
    assert answer == {
        "coupon_id": str(coupon.id),
        "status": "redeemed",
        "redeemed_at": "2026-03-02T09:00:00+00:00",
        "redeemed_by": str(member),
        "template_name": "Coffee",
        "coupon_value_type": "fixed_amount",
        "coupon_value": "5.00",
        "replayed": False,
    }
    row = till.row(coupon)
    assert (row["status"], row["redeemed_at"], row["redeemed_by"]) == ("redeemed", NOW, str(member))
    assert (row["redemption_proof"], row["redemption_key"]) == (proof, "till-1")
    assert (row["request_id"], row["updated_at"]) == ("r-1", NOW)


def test_the_service_is_the_partners_backend(till: Till) -> None:
    coupon = till.coupon()
    assert till.consume(None, coupon)["redeemed_by"] == "service"
    assert till.row(coupon)["redeemed_by"] == "service"


def test_the_same_key_again_gets_the_first_answer(world: World, till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    first = till.consume(member, coupon, "till-1", redemption_proof={"n": 1})
    world.operator.execute("update coupon_templates set template_name = 'Tea', coupon_value = '1'")
    world.pass_time(timedelta(days=60))
    again = till.consume(member, coupon, "till-1", redemption_proof={"n": 2})
    assert again == {**first, "replayed": True}
    assert till.row(coupon)["redemption_proof"] == {"n": 1}
    assert till.failures() == {}


def test_it_is_used_once(till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    till.consume(member, coupon, "till-1")
    assert till.consume(member, coupon, "till-2") == NOT_VALID
    assert till.consume(till.member(), coupon, "till-1") == NOT_VALID
    assert till.consume(None, coupon, "till-1") == NOT_VALID


def test_its_owner_does_not_consume_it(world: World, till: Till) -> None:
    coupon = till.coupon()
    for verb in ("consume", "hold", "release"):
        with refused("forbidden", 403):
            till.everything()[verb](coupon.owner, coupon)
    # Not even behind the counter.
    world.operator.execute(
        "insert into partner_members (partner_id, user_id) values ('coffee-house', %s)",
        (coupon.owner,),
    )
    with refused("forbidden", 403):
        till.consume(coupon.owner, coupon)
    assert till.row(coupon)["status"] == "issued"
    assert till.failures() == {}


def test_it_is_good_to_its_last_moment(world: World, till: Till) -> None:
    coupon, another = till.coupon(days=1), till.coupon(days=1)
    world.pass_time(timedelta(days=1) - timedelta(microseconds=1))
    assert till.consume(None, coupon)["replayed"] is False
    world.pass_time(timedelta(microseconds=1))
    assert till.consume(None, another) == NOT_VALID


def test_a_coupon_outlives_its_offer(world: World, till: Till) -> None:
    coupon = till.coupon()
    world.operator.execute(
        "update coupon_templates set is_active = false, valid_until = '2026-03-02'"
    )
    assert till.consume(till.member(), coupon)["status"] == "redeemed"


def test_twenty_tills_at_once_use_it_once(till: Till) -> None:
    coupon = till.coupon()
    members = [till.member() for _ in range(20)]
    results = till.world.at_once(
        [lambda s, m=m: till.consume(m, coupon, through=s) for m in members]  # type: ignore[misc]
    )
    assert answers(results) == {"first": 1, "coupon_not_valid": 19}
    assert len(till.failures()) == 19


def test_twenty_retries_at_once_are_one_use(till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    results: list[Any] = till.world.at_once(
        [lambda s: till.consume(member, coupon, through=s)] * 20
    )
    assert answers(results) == {"first": 1, "replayed": 19}
    assert len({r["redeemed_at"] for r in results}) == 1
    assert till.failures() == {}


def test_who_waits_for_a_use_that_is_given_up_uses_it(world: World, till: Till) -> None:
    coupon, one, two = till.coupon(), till.member(), till.member()
    first = world.session("tallybook_functions", autocommit=False)
    till.consume(one, coupon, through=first)
    with world.in_background(
        lambda session: till.consume(two, coupon, through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.rollback()
    assert second.result()["redeemed_by"] == str(two)


def test_using_and_revoking_at_once_one_wins(world: World, till: Till, admin: UUID) -> None:
    for _ in range(5):
        coupon = till.coupon()
        used, revoked = world.at_once(
            [
                lambda s, c=coupon: till.consume(None, c, through=s),  # type: ignore[misc]
                lambda s, c=coupon: world.call(  # type: ignore[misc]
                    "public.revoke_coupon",
                    {"user_id": admin, "coupon_id": c.id, "reason": "stolen", "refund": True},
                    s,
                ),
            ]
        )
        if till.row(coupon)["status"] == "redeemed":
            assert (answers([used]), code_of(revoked)) == ({"first": 1}, "coupon_used")
            assert world.points(coupon.owner) == 0
        else:
            assert used == NOT_VALID
            assert world.points(coupon.owner) == 500

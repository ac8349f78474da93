"""A code is shown: its owner hears how it stands, the partner whether it can be used, nobody else
anything."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.coupons.till import NOT_VALID, Coupon, Till, code_of_any_key
from tests.world import World

ENDS = {
    "redeemed": "update coupons set status = 'redeemed'",
    "expired": "update coupons set status = 'expired'",
    "past its day": "update coupons set expires_at = internal.clock()",
    "revoked": "update coupons set status = 'revoked'",
    "held by another": (
        "update coupons set status = 'held', held_by = 'somebody', hold_key = 'k',"
        " held_until = internal.clock() + interval '1 minute'"
    ),
}
STATUS = {"past its day": "expired", "held by another": "held"}


def test_its_partner_sees_a_coupon_that_can_be_used(world: World, till: Till) -> None:
    coupon = till.coupon()
    seen = {
        "valid": True,
        "status": "issued",
        "coupon_id": str(coupon.id),
        "template_name": "Coffee",
        "coupon_value_type": "fixed_amount",
        "coupon_value": "5.00",
        "partner_name": "The coffee house",
        "expires_at": "2026-04-01T09:00:00+00:00",
    }
    assert till.verify(till.member(), coupon) == seen
    assert till.verify(None, coupon) == seen
    assert till.verify(coupon.owner, coupon) == seen


def test_looking_changes_nothing(till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    before = till.row(coupon)
    assert till.verify(member, coupon) == till.verify(member, coupon)
    assert till.row(coupon) == before
    assert till.failures() == {}


@pytest.mark.parametrize("end", ENDS)
def test_its_owner_hears_how_it_stands(world: World, till: Till, end: str) -> None:
    coupon = till.coupon()
    world.operator.execute(ENDS[end])
    answer = till.verify(coupon.owner, coupon)
    assert (answer["valid"], answer["status"]) == (False, STATUS.get(end, end))
    assert till.failures() == {}


def test_a_hold_that_lapsed_is_none(world: World, till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    till.hold(None, coupon, hold_seconds=60)
    assert till.verify(member, coupon) == NOT_VALID
    world.pass_time(timedelta(seconds=60))
    for who in (member, coupon.owner):
        answer = till.verify(who, coupon)
        assert (answer["valid"], answer["status"]) == (True, "issued")


def test_who_holds_it_sees_that_it_is_held(till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    till.hold(member, coupon)
    answer = till.verify(member, coupon)
    assert (answer["valid"], answer["status"]) == (True, "held")
    assert till.verify(coupon.owner, coupon)["valid"] is False


def strangers(till: Till) -> dict[str, UUID]:
    return {"nobody": uuid4(), "another partner's": till.member("tea-house")}


@pytest.mark.parametrize("verb", ["verify", "consume", "hold", "release"])
@pytest.mark.parametrize("end", ["unknown", *ENDS])
def test_nobody_but_the_owner_can_tell_one_wrong_code_from_another(
    world: World, till: Till, end: str, verb: str
) -> None:
    coupon: Coupon | tuple[str, ...] = till.coupon()
    show = till.everything()[verb]
    if end == "unknown":
        coupon = code_of_any_key()
    else:
        world.operator.execute(ENDS[end])
    people = {**strangers(till), "a member": till.member(), "the service": None}
    for who in people.values():
        assert show(who, coupon) == NOT_VALID
    # Each has one wrong code more to answer for; the service has no user.
    assert set(till.failures().values()) == {1}
    assert len(till.failures()) == 3


@pytest.mark.parametrize("verb", ["verify", "consume", "hold", "release"])
def test_a_stranger_cannot_tell_a_good_code_from_a_wrong_one(till: Till, verb: str) -> None:
    coupon, show = till.coupon(), till.everything()[verb]
    before = till.row(coupon)
    for who in strangers(till).values():
        assert show(who, coupon) == show(who, code_of_any_key()) == NOT_VALID
    assert till.row(coupon) == before
    assert set(till.failures().values()) == {2}


@pytest.mark.parametrize("nothing", [(), ("0" * 64,), ("x",)])
def test_a_code_that_cannot_be_one_is_answered_alike(till: Till, nothing: tuple[str, ...]) -> None:
    till.coupon()
    assert till.verify(uuid4(), nothing) == NOT_VALID
    assert set(till.failures().values()) == {1}


@pytest.mark.parametrize("key", [0, 1])
def test_a_code_is_known_by_its_hash_under_any_key(world: World, till: Till, key: int) -> None:
    """The coupon was sold under one secret; today's comes first and finds it, or the older does."""
    template = world.template(partner_id="coffee-house")
    code = code_of_any_key()
    bought = world.redeem(world.user(points=500), template, code_hash=code[key], key_id=f"k{key}")
    assert till.verify(till.member(), code)["coupon_id"] == bought["coupon_id"]
    assert till.consume(till.member(), code)["coupon_id"] == bought["coupon_id"]
    assert till.consume(till.member(), code) == NOT_VALID


def test_a_member_who_left_is_a_stranger(world: World, till: Till) -> None:
    coupon, member = till.coupon(), till.member()
    world.operator.execute("delete from partner_members")
    assert till.verify(member, coupon) == NOT_VALID


def test_a_coupon_of_no_partner_is_for_the_service_alone(world: World, till: Till) -> None:
    coupon = till.coupon(world.template())
    assert till.verify(till.member(), coupon) == NOT_VALID
    assert till.verify(None, coupon)["valid"] is True


def test_a_procedure_sees_the_coupon_whose_code_is_shown_and_no_other(
    world: World, till: Till
) -> None:
    """Row-level security says so, even where a procedure forgets to."""
    coupon = till.coupon()
    till.coupon()
    seen = "select coupon_id from coupons"
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("set local role tallybook_procedures")
        assert world.rows(seen) == []
        world.admin.execute("select internal.show_codes(%s)", (list(coupon.code),))
        assert world.rows(seen) == [{"coupon_id": coupon.id}]
        world.admin.execute("select internal.show_codes(null)")
        assert world.rows(seen) == []

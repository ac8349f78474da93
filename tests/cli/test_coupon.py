"""`tallybook coupon`: coupons are found, taken and ended; codes are never told."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tallybook.coupon_code import CouponKeys, new_code
from tests.cli.conftest import COUPON_SECRET, Run
from tests.world import World

KEYS = CouponKeys(COUPON_SECRET)


@pytest.fixture
def user(world: World) -> UUID:
    return world.user(points=2000)


def bought(world: World, user: UUID, template: UUID | None = None) -> tuple[str, str]:
    """A coupon's id and its code, as the function makes it."""
    code = new_code()
    answer = world.redeem(
        user,
        template or world.template(limit=None),
        code_hash=KEYS.hash_code(code),
        key_id=KEYS.key_id,
    )
    return answer["coupon_id"], code


def status(world: World, coupon: str) -> str:
    found: str = world.value("select status from coupons where coupon_id = %s", (coupon,))
    return found


def test_coupons_are_listed_the_latest_first(operate: Run, world: World, user: UUID) -> None:
    template = world.template(cost=100, limit=None)
    first, second = (bought(world, user, template)[0] for _ in "ab")
    others, _ = bought(world, world.user(points=500))
    operate("coupon", "revoke", first, "--reason", "Lost")

    def ids(*options: str) -> list[str]:
        listed = operate("coupon", "list", "--json", *options).json["coupons"]
        return [coupon["coupon_id"] for coupon in listed]

    assert ids() == [others, second, first]
    assert ids("--limit", "1") == [others]
    assert ids("--user", str(user)) == [second, first]
    assert ids("--template", str(template), "--status", "issued") == [second]
    for options in ((), ("--user", str(user))):
        told = operate("coupon", "list", *options, env={"COLUMNS": "100"}).output
        assert first in told and second in told
        assert max(map(len, told.splitlines())) <= 100


def test_one_is_shown_by_its_id_or_by_its_code(operate: Run, world: World, user: UUID) -> None:
    coupon, code = bought(world, user)
    for done in (
        operate("coupon", "show", coupon, "--json"),
        operate("coupon", "show", code.lower(), "--json"),
        operate("coupon", "show", "-", "--json", input=f"{code}\n"),
    ):
        assert done.json["coupon_id"] == coupon
        assert code not in done.output
        assert KEYS.hash_code(code) not in done.output
    assert operate("coupon", "show", coupon).code == 0
    assert operate("coupon", "show", str(uuid4())).code == 1
    assert operate("coupon", "show", new_code()).code == 1
    assert (
        operate("coupon", "show", "a typo", "--json").json["refusal"]["code"] == "coupon_not_valid"
    )
    assert operate("coupon", "show", code, env={"COUPON_SECRET": ""}).code == 2


def test_what_time_has_ended_is_shown_so(operate: Run, world: World, user: UUID) -> None:
    world.freeze()
    coupon, _ = bought(world, user)
    world.pass_time(timedelta(days=31))
    (shown,) = operate("coupon", "list", "--status", "expired", "--json").json["coupons"]
    assert shown["coupon_id"] == coupon
    assert operate("coupon", "expire", "--dry-run", "--json").json["expired"] == 1
    assert status(world, coupon) == "issued"
    assert operate("coupon", "expire").code == 0
    assert status(world, coupon) == "expired"


def test_a_coupon_is_revoked_once_with_its_points(operate: Run, world: World, user: UUID) -> None:
    coupon, _ = bought(world, user)
    revoke = ("coupon", "revoke", coupon, "--reason", "Stolen", "--refund", "--json")
    assert operate(*revoke, "--dry-run").json["points_refunded"] == 500
    assert (status(world, coupon), world.points(user)) == ("issued", 1500)
    assert operate(*revoke).json["status"] == "revoked"
    assert (status(world, coupon), world.points(user)) == ("revoked", 2000)
    assert operate(*revoke).json["replayed"] is True
    other = operate("coupon", "revoke", coupon, "--reason", "Sold", "--json")
    assert (other.code, other.json["refusal"]["code"]) == (1, "coupon_revoked")
    assert world.points(user) == 2000
    assert operate("coupon", "revoke", str(uuid4()), "--reason", "x").code == 1


def test_points_are_given_back_once(operate: Run, world: World, user: UUID) -> None:
    coupon, _ = bought(world, user)
    refund = ("coupon", "refund", coupon, "--reason", "The shop is closed", "--json")
    assert operate(*refund, "--dry-run").json["points_refunded"] == 500
    assert world.points(user) == 1500
    assert operate(*refund).code == 0
    assert world.points(user) == 2000
    assert operate(*refund).json["replayed"] is True
    assert world.points(user) == 2000


def test_a_code_is_verified_and_consumed_once(operate: Run, world: World, user: UUID) -> None:
    coupon, code = bought(world, user)
    assert operate("coupon", "verify", code, "--json").json["coupon_id"] == coupon
    assert operate("coupon", "verify", code).code == 0
    consume = ("coupon", "consume", "-", "--key", "till-1-0001", "--json")
    tried = operate(*consume, "--dry-run", input=code)
    assert (tried.json["status"], status(world, coupon)) == ("redeemed", "issued")
    # Who it was is not for the proof to say.
    receipt = '{"receipt": "R-1", "operator": "eve@example.org"}'
    done = operate(*consume, "--proof", receipt, input=code)
    assert done.json["replayed"] is False
    assert code not in done.output
    assert operate(*consume, input=code).json["replayed"] is True
    proof = world.value("select redemption_proof from coupons where coupon_id = %s", (coupon,))
    assert proof == {"receipt": "R-1", "operator": "op@example.org"}
    for refused in (
        operate("coupon", "consume", code, "--key", "till-1-0002", "--json"),
        operate("coupon", "verify", code, "--json"),
        operate("coupon", "verify", new_code(), "--json"),
    ):
        assert (refused.code, refused.json["refusal"]["code"]) == (1, "coupon_not_valid")
    assert operate("coupon", "consume", code, "--key", "k", "--proof", "R-1").code == 2

"""An administrator ends a coupon, says why, and may give its points back."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.coupons.till import NOT_VALID, Coupon, Till
from tests.world import NOW, Connection, World, code_of, refused


def revoke(
    world: World, who: UUID | None, coupon: Coupon, through: Connection | None = None, **more: Any
) -> Any:
    return world.call(
        "public.revoke_coupon",
        {"user_id": who, "coupon_id": coupon.id, "reason": "lost", **more},
        through or world.functions,
    )


def test_a_coupon_is_revoked(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    answer = revoke(world, admin, coupon, request_id="r-1")
    assert answer == {
        "coupon_id": str(coupon.id),
        "user_id": str(coupon.owner),
        "status": "revoked",
        "revoked_at": "2026-03-02T09:00:00+00:00",
        "revoked_by": "ops@example.org",
        "points_refunded": 0,
        "replayed": False,
    }
    row = till.row(coupon)
    assert (row["status"], row["revoked_at"]) == ("revoked", NOW)
    assert (row["revoked_by"], row["revocation_reason"]) == ("ops@example.org", "lost")
    assert (row["refunded_at"], world.points(coupon.owner)) == (None, 0)
    assert till.consume(None, coupon) == NOT_VALID


def test_it_is_written_down(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    till.hold(None, coupon, request_id="r-0")
    revoke(world, admin, coupon, request_id="r-1")
    (row,) = world.rows("select * from audit_log where subject_type = 'coupon'")
    assert (row["action"], row["subject_id"]) == ("coupon.revoked", str(coupon.id))
    assert (row["actor"], row["reason"], row["request_id"]) == ("ops@example.org", "lost", "r-1")
    assert row["before"] == {"status": "held", "held_by": "service"}
    assert row["after"] == {"status": "revoked", "revoked_at": "2026-03-02T09:00:00+00:00"}


def test_its_points_go_back_when_asked(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon(max_redemptions=1)
    answer = revoke(world, admin, coupon, refund=True, request_id="r-1")
    assert (answer["points_refunded"], answer["replayed"]) == (500, False)
    (event,) = world.rows("select * from points_events where event_type = 'coupon_refund'")
    assert (str(event["id"]), event["points_delta"]) == (answer["refund_points_event_id"], 500)
    assert (event["user_id"], event["related_entity_id"]) == (coupon.owner, coupon.id)
    assert (event["validated_by"], event["validation_notes"]) == ("ops@example.org", "lost")
    assert (event["transfer_id"], event["request_id"]) == (event["id"], "r-1")
    row = till.row(coupon)
    assert (row["refunded_at"], row["refund_points_event_id"]) == (NOW, event["id"])
    assert world.points(coupon.owner) == 500
    assert [r["action"] for r in world.rows("select * from audit_log order by audit_id")][-2:] == [
        "coupon.revoked",
        "coupon.refunded",
    ]
    # There is one again.
    world.redeem(world.user(points=500), coupon.template)


@pytest.mark.parametrize("given_back", [False, True])
def test_the_same_again_is_the_same_answer(
    world: World, till: Till, admin: UUID, given_back: bool
) -> None:
    """Whoever lost the reply asks once more."""
    coupon = till.coupon()
    first = revoke(world, admin, coupon, refund=given_back)
    world.pass_time(timedelta(hours=1))
    assert revoke(world, admin, coupon, refund=given_back) == {**first, "replayed": True}
    assert world.points(coupon.owner) == (500 if given_back else 0)
    assert world.count("audit_log", "action = 'coupon.revoked'") == 1


def test_a_second_time_is_refused(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    revoke(world, admin, coupon)
    others: list[dict[str, Any]] = [{"refund": True}, {"reason": "stolen"}]
    for other in others:
        with refused("coupon_revoked", 409, "coupon_id: "):
            revoke(world, admin, coupon, **other)
    with refused("coupon_revoked", 409, "coupon_id: "):
        revoke(world, None, coupon, actor="somebody else")
    assert world.points(coupon.owner) == 0


def test_the_service_and_an_operator_say_who_they_are(world: World, till: Till) -> None:
    first, second, third = till.coupon(), till.coupon(), till.coupon()
    assert revoke(world, None, first, actor="cli:ann")["revoked_by"] == "cli:ann"
    assert revoke(world, None, second, world.operator)["revoked_by"] == "tallybook_operator"
    assert revoke(world, None, third)["revoked_by"] == "tallybook_functions"


def test_the_first_reason_in_the_documented_order_is_given(
    world: World, till: Till, admin: UUID
) -> None:
    nothing = Coupon(uuid4(), uuid4(), uuid4(), ())
    with refused("forbidden", 403):
        revoke(world, uuid4(), nothing, reason="")
    for reason in ("", "  ", None):
        with refused("reason_required", 400, "reason: "):
            revoke(world, admin, nothing, reason=reason)
    with refused("coupon_not_found", 404, "coupon_id: "):
        revoke(world, admin, nothing)
    coupon = till.coupon()
    till.consume(None, coupon)
    with refused("coupon_used", 409, "coupon_id: "):
        revoke(world, admin, coupon)


@pytest.mark.parametrize("who", ["owner", "member", "retired"])
def test_only_an_administrator_does_it(world: World, till: Till, admin: UUID, who: str) -> None:
    coupon = till.coupon()
    people = {"owner": coupon.owner, "member": till.member(), "retired": admin}
    world.operator.execute("update system_admins set is_active = false")
    with refused("forbidden", 403):
        revoke(world, people[who], coupon)
    assert till.row(coupon)["status"] == "issued"


def test_what_expired_is_revoked_too(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon(days=1)
    world.pass_time(timedelta(days=2))
    world.call("public.mark_expired_coupons", {}, world.worker)
    assert revoke(world, admin, coupon, refund=True)["points_refunded"] == 500
    assert world.points(coupon.owner) == 500


def test_what_was_refunded_is_not_refunded_again(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon(days=1)
    world.pass_time(timedelta(days=2))
    world.call(
        "public.refund_coupon",
        {"user_id": admin, "coupon_id": coupon.id, "reason": "goodwill"},
        world.functions,
    )
    with refused("coupon_refunded", 409, "coupon_id: "):
        revoke(world, admin, coupon, refund=True)
    assert till.row(coupon)["status"] == "expired"
    revoke(world, admin, coupon)
    assert world.points(coupon.owner) == 500


def test_eight_at_once_revoke_once(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon(max_redemptions=1)
    results = world.at_once([lambda s: revoke(world, admin, coupon, s, refund=True)] * 8)
    assert Counter(
        result["replayed"] if isinstance(result, dict) else code_of(result) for result in results
    ) == {False: 1, True: 7}
    assert world.points(coupon.owner) == 500
    assert world.count("audit_log", "action = 'coupon.revoked'") == 1

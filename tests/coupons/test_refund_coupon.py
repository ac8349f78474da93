"""A coupon's points go back once, however the refund comes, and it was never sold then."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.coupons.till import NOT_VALID, Coupon, Till
from tests.world import NOW, Connection, World, code_of, refused

RUNBOOK_REVOKE = """
    UPDATE coupons
    SET status = 'revoked', updated_at = now()
    WHERE coupon_id = '{coupon}';
"""
RUNBOOK_REFUND = """
    -- Optionally refund points
    INSERT INTO points_events (
      user_id, event_type, event_time, points_delta,
      proof_type, validation_status, validated_by,
      related_entity_type, related_entity_id
    ) VALUES (
      '{user}', 'coupon_refund', now(), {points},
      'manual_admin', 'validated', 'op@example.org',
      'coupon', '{coupon}'
    );
"""
RUNBOOK_REFRESH = "SELECT refresh_user_points_cache('{user}');"


def refund(
    world: World, who: UUID | None, coupon: Coupon, through: Connection | None = None, **more: Any
) -> Any:
    return world.call(
        "public.refund_coupon",
        {"user_id": who, "coupon_id": coupon.id, "reason": "the shop closed", **more},
        through or world.functions,
    )


def by_hand(
    coupon: Coupon, through: Connection, text: str = RUNBOOK_REFUND, points: int = 500
) -> None:
    through.execute(text.format(user=coupon.owner, coupon=coupon.id, points=points))  # type: ignore[call-overload]


def test_points_go_back_and_the_coupon_ends(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    answer = refund(world, admin, coupon, request_id="r-1")
    assert answer == {
        "coupon_id": str(coupon.id),
        "user_id": str(coupon.owner),
        "status": "revoked",
        "refunded_at": "2026-03-02T09:00:00+00:00",
        "refunded_by": "ops@example.org",
        "points_refunded": 500,
        "refund_points_event_id": answer["refund_points_event_id"],
        "replayed": False,
    }
    row = till.row(coupon)
    assert (row["status"], row["revoked_at"], row["refunded_at"]) == ("revoked", NOW, NOW)
    assert (row["revoked_by"], row["revocation_reason"]) == ("ops@example.org", "the shop closed")
    assert str(row["refund_points_event_id"]) == answer["refund_points_event_id"]
    assert world.points(coupon.owner) == 500
    assert till.consume(None, coupon) == NOT_VALID


def test_it_is_written_down(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    answer = refund(world, admin, coupon, request_id="r-1")
    rows = world.rows("select * from audit_log where subject_type = 'coupon' order by audit_id")
    assert [row["action"] for row in rows] == ["coupon.revoked", "coupon.refunded"]
    for row in rows:
        assert (row["subject_id"], row["reason"]) == (str(coupon.id), "the shop closed")
        assert (row["actor"], row["request_id"]) == ("ops@example.org", "r-1")
    assert rows[1]["before"] == {"status": "issued", "refunded_at": None}
    assert rows[1]["after"] == {
        "status": "revoked",
        "refunded_at": "2026-03-02T09:00:00+00:00",
        "points_event_id": answer["refund_points_event_id"],
        "points": 500,
    }


def test_a_refunded_coupon_was_never_sold(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon(limit=1, max_redemptions=1, budget_points=500)
    with refused("template_exhausted", 409):
        world.redeem(coupon.owner, coupon.template)
    refund(world, admin, coupon)
    assert world.rows("select issued, points from coupon_stock") == [{"issued": 0, "points": 0}]
    # Neither the overall limit nor the user's own counts it.
    world.redeem(coupon.owner, coupon.template)
    assert world.points(coupon.owner) == 0


def test_what_has_expired_stays_expired(world: World, till: Till, admin: UUID) -> None:
    marked, unmarked = till.coupon(days=1), till.coupon(days=2)
    world.pass_time(timedelta(days=1))
    world.call("public.mark_expired_coupons", {}, world.worker)
    world.pass_time(timedelta(days=1))
    for coupon in (marked, unmarked):
        assert refund(world, admin, coupon)["status"] == "expired"
        assert till.row(coupon)["revoked_at"] is None
    assert world.count("audit_log", "action = 'coupon.revoked'") == 0


def test_what_was_revoked_before_is_refunded_later(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    by_hand(coupon, world.operator, RUNBOOK_REVOKE)
    assert refund(world, admin, coupon)["points_refunded"] == 500
    assert world.points(coupon.owner) == 500
    assert till.row(coupon)["revoked_by"] == "tallybook_operator"


def test_a_held_coupon_is_refunded(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    till.hold(None, coupon)
    refund(world, admin, coupon)
    assert till.row(coupon)["held_until"] is None
    assert till.consume(None, coupon) == NOT_VALID


def test_the_first_reason_in_the_documented_order_is_given(
    world: World, till: Till, admin: UUID
) -> None:
    nothing = Coupon(uuid4(), uuid4(), uuid4(), ())
    with refused("forbidden", 403):
        refund(world, uuid4(), nothing, reason="")
    for reason in ("", " \n", None):
        with refused("reason_required", 400, "reason: "):
            refund(world, admin, nothing, reason=reason)
    with refused("coupon_not_found", 404, "coupon_id: "):
        refund(world, admin, nothing)
    used, given_back = till.coupon(), till.coupon()
    till.consume(None, used)
    with refused("coupon_used", 409, "coupon_id: "):
        refund(world, admin, used)
    refund(world, admin, given_back)
    with refused("coupon_refunded", 409, "coupon_id: "):
        refund(world, admin, given_back, reason="for another reason")
    assert (world.points(used.owner), world.points(given_back.owner)) == (0, 500)


def test_the_same_again_is_the_same_answer(world: World, till: Till, admin: UUID) -> None:
    """Whoever lost the reply asks once more."""
    coupon = till.coupon()
    first = refund(world, admin, coupon, request_id="r-1")
    world.pass_time(timedelta(hours=1))
    assert refund(world, admin, coupon, request_id="r-2") == {**first, "replayed": True}
    with refused("coupon_refunded", 409, "coupon_id: "):
        refund(world, None, coupon, actor="somebody else")
    assert world.points(coupon.owner) == 500
    assert world.count("audit_log", "action = 'coupon.refunded'") == 1


def test_eight_at_once_refund_once(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon(max_redemptions=5)
    results = world.at_once([lambda s: refund(world, admin, coupon, s)] * 8)
    assert Counter(
        result["replayed"] if isinstance(result, dict) else code_of(result) for result in results
    ) == {False: 1, True: 7}
    assert world.points(coupon.owner) == 500
    assert world.value("select issued from coupon_stock") == 0


def test_refunding_and_buying_at_once_sell_the_unit_once(
    world: World, till: Till, admin: UUID
) -> None:
    coupon = till.coupon(max_redemptions=1)
    buyers = [world.user(points=500) for _ in range(6)]
    for buyer in buyers:
        with refused("template_exhausted", 409):
            world.redeem(buyer, coupon.template)
    results = world.at_once(
        [
            lambda s: refund(world, admin, coupon, s),
            *(lambda s, b=b: world.redeem(b, coupon.template, through=s) for b in buyers),  # type: ignore[misc]
        ]
    )
    bought = [r for r in results[1:] if isinstance(r, dict)]
    assert len(bought) <= 1
    assert world.value("select issued from coupon_stock") == len(bought)


# The runbook


def test_the_runbook_as_printed(world: World, till: Till) -> None:
    coupon = till.coupon(max_redemptions=1)
    by_hand(coupon, world.operator, RUNBOOK_REVOKE + RUNBOOK_REFUND + RUNBOOK_REFRESH)
    row = till.row(coupon)
    (event,) = world.rows("select * from points_events where event_type = 'coupon_refund'")
    assert (row["status"], row["revoked_at"]) == ("revoked", NOW)
    assert row["revoked_by"] == "tallybook_operator"
    assert (row["refunded_at"], row["refund_points_event_id"]) == (NOW, event["id"])
    assert (event["transfer_id"], world.points(coupon.owner)) == (event["id"], 500)
    assert world.value("select issued from coupon_stock") == 0
    rows = world.rows("select * from audit_log where subject_type = 'coupon' order by audit_id")
    assert [(row["action"], row["actor"]) for row in rows] == [
        ("coupon.revoked", "tallybook_operator"),
        ("coupon.refunded", "op@example.org"),
    ]


def test_the_runbook_line_by_line(world: World, till: Till) -> None:
    coupon = till.coupon()
    for text in (RUNBOOK_REVOKE, RUNBOOK_REFUND, RUNBOOK_REFRESH):
        by_hand(coupon, world.operator, text)
    assert world.points(coupon.owner) == 500
    assert world.cache(coupon.owner) is not None


def test_the_runbooks_refund_works_once(world: World, till: Till, admin: UUID) -> None:
    coupon = till.coupon()
    by_hand(coupon, world.operator, RUNBOOK_REVOKE + RUNBOOK_REFUND + RUNBOOK_REFRESH)
    with refused("coupon_refunded", 409, "coupon_id: "):
        by_hand(coupon, world.operator)
    with refused("coupon_refunded", 409, "coupon_id: "):
        refund(world, admin, coupon)
    assert world.points(coupon.owner) == 500


def test_a_refund_without_a_revocation_revokes(world: World, till: Till) -> None:
    coupon = till.coupon()
    by_hand(coupon, world.operator, RUNBOOK_REFUND + RUNBOOK_REFRESH)
    row = till.row(coupon)
    assert (row["status"], row["revoked_by"]) == ("revoked", "op@example.org")


def test_a_refund_by_hand_and_by_an_administrator_at_once_is_one(
    world: World, till: Till, admin: UUID
) -> None:
    coupon, hand = till.coupon(), world.session("tallybook_operator", autocommit=False)
    by_hand(coupon, hand)
    with world.in_background(
        lambda session: refund(world, admin, coupon, session),
        world.session("tallybook_functions"),
    ) as second:
        by_hand(coupon, hand, RUNBOOK_REFRESH)
        hand.commit()
    with refused("coupon_refunded", 409):
        second.result()
    assert world.points(coupon.owner) == 500


def test_two_hands_at_once_refund_once(world: World, till: Till) -> None:
    coupon, hand = till.coupon(max_redemptions=1), world.session("tallybook_operator", False)
    by_hand(coupon, hand)
    with world.in_background(
        lambda session: by_hand(coupon, session), world.session("tallybook_operator")
    ) as second:
        hand.commit()
    with refused("coupon_refunded", 409):
        second.result()
    by_hand(coupon, world.operator, RUNBOOK_REFRESH)
    assert world.points(coupon.owner) == 500


@pytest.mark.parametrize("points", [499, 501, -500, 0])
def test_a_refund_is_what_the_coupon_cost(world: World, till: Till, points: int) -> None:
    coupon = till.coupon()
    with refused("invalid_points", 400, "points_delta: "):
        by_hand(coupon, world.operator, points=points)
    assert till.row(coupon)["status"] == "issued"
    assert world.count("points_events", "event_type = 'coupon_refund'") == 0


def test_a_refund_goes_to_whose_coupon_it_was(world: World, till: Till) -> None:
    coupon = till.coupon()
    for wrong in (
        Coupon(coupon.id, world.user(), coupon.template, ()),
        Coupon(uuid4(), coupon.owner, coupon.template, ()),
    ):
        with refused("coupon_not_found", 404, "related_entity_id: "):
            by_hand(wrong, world.operator)
    for text in (
        RUNBOOK_REFUND.replace("'coupon', '{coupon}'", "null, null"),
        RUNBOOK_REFUND.replace("'coupon', '{coupon}'", "'thing', '{coupon}'"),
    ):
        with refused("coupon_not_found", 404):
            by_hand(coupon, world.operator, text)


def test_what_was_used_is_not_refunded_by_hand_either(world: World, till: Till) -> None:
    coupon = till.coupon()
    till.consume(None, coupon)
    with refused("coupon_used", 409, "coupon_id: "):
        by_hand(coupon, world.operator)


@pytest.mark.parametrize("status", ["pending", "pending_review", "rejected"])
def test_a_refund_begins_validated(world: World, till: Till, status: str) -> None:
    coupon = till.coupon()
    with refused("invalid_transition", 409):
        by_hand(coupon, world.operator, RUNBOOK_REFUND.replace("'validated'", f"'{status}'"))
    assert till.row(coupon)["refunded_at"] is None


def test_a_refund_that_does_not_come_in_refunds_nothing(world: World, till: Till) -> None:
    first, second = till.coupon(), till.coupon()
    text = RUNBOOK_REFUND.replace("user_id,", "payload_hash, user_id,").replace(
        "'{user}',", "'h', '{user}',"
    )
    again = text.replace(");", ") on conflict do nothing;")
    by_hand(first, world.operator, text + RUNBOOK_REFRESH)
    by_hand(first, world.operator, again)
    other = Coupon(second.id, first.owner, second.template, ())
    by_hand(other, world.operator, again)
    assert till.row(second)["refunded_at"] is None


@pytest.mark.parametrize(
    "change",
    [
        "update coupons set refunded_at = null, refund_points_event_id = null",
        "update coupons set refunded_at = null",
        "update coupons set refund_points_event_id = gen_random_uuid()",
    ],
)
def test_a_refund_stays_written_on_its_coupon(
    world: World, till: Till, admin: UUID, change: str
) -> None:
    """Or a hand that takes the mark away could refund it again."""
    coupon = till.coupon()
    refund(world, admin, coupon)
    with refused("coupon_refunded", 409, "coupon_id: "):
        world.operator.execute(change)
    with refused("coupon_refunded", 409, "coupon_id: "):
        by_hand(coupon, world.operator)
    assert world.points(coupon.owner) == 500

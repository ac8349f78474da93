"""Whatever of a coupon's life does not agree is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from tests.coupons.till import Coupon, Till
from tests.world import World

Fault = tuple[str, UUID | None, str, str, str]


@pytest.fixture
def coupon(till: Till) -> Coupon:
    """One of a template that has a limit and a budget."""
    return till.coupon(max_redemptions=2, budget_points=1000)


@contextmanager
def broken(world: World, *statements: str) -> Iterator[list[Fault]]:
    """What is reported once these statements have had their way."""
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("set local session_replication_role = replica")
        for statement in statements:
            world.admin.execute(statement)  # type: ignore[arg-type]
        yield [tuple(row.values()) for row in world.discrepancies()]  # type: ignore[misc]


def refunded(world: World, coupon: Coupon) -> UUID:
    """The event that gave the points of this coupon back."""
    answer = world.call(
        "public.refund_coupon",
        {"user_id": None, "coupon_id": coupon.id, "reason": "goodwill"},
        world.operator,
    )
    return UUID(answer["refund_points_event_id"])


@pytest.mark.parametrize(
    ("change", "actual"),
    [
        ("update coupon_stock set issued = 2", "2 coupons for 500 points"),
        ("update coupon_stock set points = 0", "1 coupons for 0 points"),
        ("delete from coupon_stock", "not counted"),
    ],
)
def test_i6_a_wrong_count(world: World, coupon: Coupon, change: str, actual: str) -> None:
    with broken(world, change) as faults:
        assert faults == [
            (
                "I6",
                None,
                f"stock of template {coupon.template}",
                "1 coupons for 500 points",
                actual,
            )
        ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("update coupon_templates set budget_points = 499", "at most 2 coupons, for 499 points"),
        (
            "update coupon_templates set max_redemptions = 1, budget_points = null;"
            "update coupon_stock set issued = 2, points = 1000, issued_before = 1;"
            "alter table coupons drop constraint coupons_code_hash_key;"
            'insert into coupons select (jsonb_populate_record(c, \'{"coupon_id":'
            ' "00000000-0000-0000-0000-000000000000", "code_hash":'
            ' "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}\')).*'
            " from coupons as c",
            "at most 1 coupons",
        ),
    ],
)
def test_i6_more_sold_than_there_were(
    world: World, coupon: Coupon, change: str, expected: str
) -> None:
    with broken(world, change) as faults:
        assert (
            "I6",
            None,
            f"stock of template {coupon.template}",
            expected,
        ) in [fault[:4] for fault in faults]


def test_i6_used_and_nobody_knows_when(world: World, coupon: Coupon) -> None:
    with broken(world, "update coupons set status = 'redeemed'") as faults:
        assert faults == [
            ("I6", coupon.owner, f"coupon {coupon.id}", "redeemed when it was used", "redeemed")
        ]


def test_i6_a_refunded_coupon_that_can_be_used(world: World, coupon: Coupon) -> None:
    refunded(world, coupon)
    with broken(world, "update coupons set status = 'issued'") as faults:
        assert faults == [
            ("I6", coupon.owner, f"coupon {coupon.id}", "ended by its refund", "issued")
        ]


def test_i1_a_refund_that_gave_nothing_back(world: World, coupon: Coupon) -> None:
    with broken(
        world,
        "update coupons set status = 'revoked', refunded_at = now(),"
        " refund_points_event_id = gen_random_uuid()",
        "update coupon_stock set issued = 0, points = 0",
    ) as faults:
        assert faults == [("I1", coupon.owner, f"refund of coupon {coupon.id}", "500", "no event")]


def test_i1_a_refund_of_another_amount(world: World, coupon: Coupon) -> None:
    event = refunded(world, coupon)
    with broken(
        world, f"update points_events set points_delta = 600 where id = '{event}'"
    ) as faults:
        assert ("I1", coupon.owner, f"refund of coupon {coupon.id}", "500", "600") in faults


def test_i2_a_refund_that_no_coupon_names(world: World, coupon: Coupon) -> None:
    event = refunded(world, coupon)
    with broken(
        world,
        "update coupons set refunded_at = null, refund_points_event_id = null",
        "update coupon_stock set issued = 1, points = 500",
    ) as faults:
        assert faults == [
            (
                "I2",
                coupon.owner,
                f"refund {event}",
                "its coupon's only refund",
                "no coupon names it",
            )
        ]


def test_i2_a_second_refund(world: World, coupon: Coupon) -> None:
    event = refunded(world, coupon)
    with broken(
        world,
        "insert into points_events (user_id, id, event_type, event_time, points_delta,"
        " validation_status, payload_hash, related_entity_type, related_entity_id)"
        f" values ('{coupon.owner}', '00000000-0000-0000-0000-000000000000', 'coupon_refund',"
        f" now(), 0, 'validated', 'h', 'coupon', '{coupon.id}')",
    ) as faults:
        assert faults == [
            (
                "I2",
                coupon.owner,
                "refund 00000000-0000-0000-0000-000000000000",
                "its coupon's only refund",
                f"coupon names {event}",
            )
        ]

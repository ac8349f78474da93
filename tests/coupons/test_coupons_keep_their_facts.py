"""What a coupon was sold as does not change, whoever writes; only its state moves."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from tests.world import World


@pytest.fixture
def sold(world: World) -> World:
    world.redeem(world.user(points=500), world.template(cost=500))
    return world


@pytest.mark.parametrize(
    "change",
    [
        "update coupons set issued_to = gen_random_uuid()",
        "update coupons set issued_points_cost = 1",
        "update coupons set code_hash = repeat('0', 64)",
        "update coupons set template_id = gen_random_uuid()",
        "delete from coupons",
        "truncate coupons",
        "delete from coupon_templates",
        "truncate coupon_templates",
    ],
)
def test_not_even_its_owner_changes_what_was_sold(sold: World, change: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        sold.admin.execute(change)


def test_its_state_moves(sold: World) -> None:
    sold.operator.execute("update coupons set status = 'revoked', updated_at = now()")
    assert sold.value("select status from coupons") == "revoked"


def test_a_lowered_limit_does_not_condemn_what_was_sold_before(world: World) -> None:
    user, template = world.user(points=300), world.template(cost=100, limit=3)
    for _ in range(3):
        world.redeem(user, template)
    world.operator.execute("update coupon_templates set max_redemptions_per_user = 1")
    assert world.discrepancies() == []


def test_a_coupon_beyond_the_limit_is_found(world: World) -> None:
    user, template = world.user(points=300), world.template(cost=100, limit=1)
    world.redeem(user, template)
    with world.admin.transaction(force_rollback=True):
        world.admin.execute(
            "insert into coupons (template_id, code_hash, key_id, issued_to, issued_points_cost,"
            " points_event_id, expires_at, issued_at)"
            " values (%s, repeat('a', 64), 'k', %s, 100, %s, now(), now() + interval '1 hour')",
            (template, user, uuid4()),
        )
        assert "I6" in {row["invariant"] for row in world.discrepancies(world.admin)}

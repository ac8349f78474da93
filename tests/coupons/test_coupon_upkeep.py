"""What time does to coupons is written down, and what was kept for a while is forgotten."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.coupons.till import Till
from tests.world import NOW, Connection, World, refused


def mark(world: World, limit: int = 1000, through: Connection | None = None) -> Any:
    return world.call("public.mark_expired_coupons", {"limit": limit}, through or world.worker)


def forget(world: World, limit: int = 10_000, through: Connection | None = None) -> Any:
    return world.call("public.forget_sealed_codes", {"limit": limit}, through or world.worker)


def test_coupons_past_their_day_have_expired(world: World, till: Till) -> None:
    due, held, later, used = (till.coupon(days=n) for n in (1, 1, 2, 1))
    till.hold(None, held, hold_seconds=86_400)
    till.consume(None, used)
    world.pass_time(timedelta(days=1))
    assert mark(world) == {"expired": 2, "released": 0}
    assert [till.row(c)["status"] for c in (due, held, later, used)] == [
        "expired",
        "expired",
        "issued",
        "redeemed",
    ]
    assert till.row(held)["held_until"] is None
    assert mark(world) == {"expired": 0, "released": 0}
    assert world.points(due.owner) == 0


def test_holds_past_their_time_are_let_go(world: World, till: Till) -> None:
    lapsed, lasting = till.coupon(), till.coupon()
    till.hold(None, lapsed, hold_seconds=60)
    till.hold(None, lasting, hold_seconds=61)
    world.pass_time(timedelta(seconds=60))
    assert mark(world) == {"expired": 0, "released": 1}
    row = till.row(lapsed)
    assert (row["status"], row["held_until"]) == ("issued", None)
    assert (row["held_by"], row["hold_key"]) == (None, None)
    assert till.row(lasting)["status"] == "held"


def test_the_oldest_come_first_and_no_more_than_asked(world: World, till: Till) -> None:
    coupons = [till.coupon(days=days) for days in (3, 1, 2)]
    world.pass_time(timedelta(days=3))
    assert mark(world, 2) == {"expired": 2, "released": 0}
    assert [till.row(c)["status"] for c in coupons] == ["issued", "expired", "expired"]
    assert mark(world, 2) == {"expired": 1, "released": 0}


def test_what_is_past_its_day_is_not_let_go_but_expires(world: World, till: Till) -> None:
    for days in (1, 2):
        till.hold(None, till.coupon(days=days), hold_seconds=60)
    world.pass_time(timedelta(days=2))
    assert mark(world, 1) == {"expired": 1, "released": 0}
    assert mark(world, 1) == {"expired": 1, "released": 0}


def test_workers_share_the_coupons(world: World, till: Till) -> None:
    template = world.template(days=1)
    for _ in range(40):
        till.coupon(template)
    world.pass_time(timedelta(days=1))
    results = world.at_once([lambda s: mark(world, 10, s)] * 4, user="tallybook_worker")
    assert all(isinstance(result, dict) for result in results)
    marked = sum(result["expired"] for result in results)  # type: ignore[index]
    assert marked + mark(world)["expired"] == 40


def test_a_coupon_that_somebody_is_using_is_left_alone(world: World, till: Till) -> None:
    used, due = till.coupon(days=1), till.coupon(days=1)
    using = world.session("tallybook_functions", autocommit=False)
    till.consume(None, used, through=using)
    world.pass_time(timedelta(days=1))
    assert mark(world) == {"expired": 1, "released": 0}
    using.commit()
    assert [till.row(c)["status"] for c in (used, due)] == ["redeemed", "expired"]


def test_upkeep_makes_no_difference_to_what_anybody_sees(world: World, till: Till) -> None:
    coupons = {"due": till.coupon(days=1), "held": till.coupon(), "lasting": till.coupon()}
    till.hold(None, coupons["held"], hold_seconds=86_400)
    world.pass_time(timedelta(days=1))
    member = till.member()

    def seen() -> list[Any]:
        return [
            till.verify(who, coupon)
            for coupon in coupons.values()
            for who in (coupon.owner, member)
        ]

    before = seen()
    assert mark(world) == {"expired": 1, "released": 1}
    assert seen() == before


# Sealed copies


def test_sealed_copies_are_forgotten_after_a_quarter_of_an_hour(world: World, till: Till) -> None:
    template = world.template(limit=None)
    early, late = world.user(points=500), world.user(points=500)
    world.submit(early, nonce="an event's nonce")
    first = world.redeem(early, template, key="k-1")
    world.pass_time(timedelta(minutes=10))
    world.redeem(late, template, key="k-2")
    world.pass_time(timedelta(minutes=5))
    assert forget(world) == {"forgotten": 1}
    assert forget(world) == {"forgotten": 0}
    kept = world.rows("select nonce, sealed is null as forgotten from used_nonces order by nonce")
    assert [(row["nonce"], row["forgotten"]) for row in kept] == [
        ("an event's nonce", True),
        ("k-1", True),
        ("k-2", False),
    ]
    assert world.redeem(early, template, key="k-1") == {
        **first,
        "sealed_code": None,
        "replayed": True,
    }


def test_the_oldest_copies_go_first_and_workers_share_them(world: World, till: Till) -> None:
    for _ in range(12):
        till.coupon()
    world.pass_time(timedelta(minutes=15))
    assert forget(world, 2) == {"forgotten": 2}
    results = world.at_once([lambda s: forget(world, 5, s)] * 4, user="tallybook_worker")
    assert sum(r["forgotten"] for r in results) + forget(world)["forgotten"] == 10  # type: ignore[index]


# What nobody does to a coupon

STATES = ["issued", "held", "redeemed", "expired", "revoked"]
WAYS = {
    "issued": {"held", "redeemed", "expired", "revoked"},
    "held": {"issued", "redeemed", "expired", "revoked"},
    "expired": {"revoked"},
    "redeemed": set(),
    "revoked": set(),
}
INTO = {
    "held": ", held_by = 'x', hold_key = 'x', held_until = internal.clock() + interval '1 hour'"
}


@pytest.mark.parametrize("before", STATES)
def test_a_status_moves_along_the_listed_ways(world: World, till: Till, before: str) -> None:
    coupon = till.coupon()
    if before != "issued":
        world.operator.execute(f"update coupons set status = '{before}'{INTO.get(before, '')}")  # type: ignore[arg-type]
    for after in STATES:
        change = f"update coupons set status = '{after}'{INTO.get(after, '')}"
        with world.operator.transaction(force_rollback=True):
            if after in WAYS[before] | {before}:
                world.operator.execute(change)  # type: ignore[arg-type]
                continue
            with refused(
                "invalid_transition", 409, f"coupon {coupon.id}, from {before} to {after}"
            ):
                world.operator.execute(change)  # type: ignore[arg-type]


def test_a_hand_that_revokes_or_redeems_says_when_without_knowing(world: World, till: Till) -> None:
    revoked, used = till.coupon(), till.coupon()
    with world.operator.transaction():
        world.operator.execute("set local tallybook.actor = 'ann'")
        world.operator.execute("set local tallybook.reason = 'stolen'")
        world.operator.execute(
            "update coupons set status = 'revoked' where coupon_id = %s", (revoked.id,)
        )
    world.operator.execute(
        "update coupons set status = 'redeemed', redeemed_by = 'by phone' where coupon_id = %s",
        (used.id,),
    )
    row = till.row(revoked)
    assert (row["revoked_at"], row["revoked_by"], row["revocation_reason"]) == (
        NOW,
        "ann",
        "stolen",
    )
    assert till.row(used)["redeemed_at"] == NOW


@pytest.mark.parametrize("table", ["coupon_stock", "partner_members", "coupon_attempts"])
def test_clients_neither_read_nor_write_what_is_behind_the_counter(
    world: World, table: str
) -> None:
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("set local role authenticated")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.admin.execute(f"select * from {table}")  # type: ignore[arg-type]


def test_partners_members_are_appointed_on_the_record(world: World, till: Till) -> None:
    member = till.member()
    world.operator.execute("delete from partner_members")
    rows = world.rows("select * from audit_log order by audit_id")
    assert Counter(row["action"] for row in rows) == {"settings.insert": 1, "settings.delete": 1}
    assert {row["subject_id"] for row in rows} == {"coffee-house"}
    assert rows[1]["before"]["user_id"] == str(member)

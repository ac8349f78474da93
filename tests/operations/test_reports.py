"""Reports: the runbook's questions as functions, each answering what its printed query answers."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.world import NOW, World, refused

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()


@pytest.fixture
def day(world: World) -> dict[str, UUID]:
    """A day's work: alice earned and bought, bob went too fast, carol still waits."""
    alice, bob, carol = world.user(points=500), world.user(), world.user()
    world.submit(alice, event_type="workout")
    world.submit(bob, at=NOW - HOUR)
    world.submit(bob, at=NOW - HOUR)
    world.validate()
    world.redeem(alice, world.template(cost=200))
    world.submit(carol)
    return {"alice": alice, "bob": bob, "carol": carol}


def report(world: World, name: str, *arguments: object) -> list[dict[str, Any]]:
    """What an operator is shown."""
    places = ", ".join(["%s"] * len(arguments))
    return world.rows(f"select * from report_{name}({places})", arguments, world.operator)


def test_events_by_status(world: World, day: dict[str, UUID]) -> None:
    rows = report(world, "events_by_status")
    assert [(r["validation_status"], r["count"], r["avg_trust_score"]) for r in rows] == [
        ("pending", 1, None),
        ("rejected", 1, Decimal("0.00")),
        ("validated", 4, Decimal("70.00")),
    ]
    world.pass_time(2 * HOUR)
    assert report(world, "events_by_status") == []
    assert len(report(world, "events_by_status", 3 * HOUR)) == 3


def test_rejections_by_type(world: World, day: dict[str, UUID]) -> None:
    first, *rest = report(world, "rejections_by_type")
    assert (first["event_type"], first["rejected"], first["total"]) == ("habit_completion", 1, 3)
    assert first["reject_rate"] == Decimal("33.33")
    assert {row["reject_rate"] for row in rest} == {0}


def test_coupons_and_templates(world: World, day: dict[str, UUID]) -> None:
    assert report(world, "coupons_by_status") == [
        {"status": "issued", "count": 1, "total_points": 200}
    ]
    (row,) = report(world, "templates")
    assert (row["template_name"], row["coupons"], row["points"]) == ("Coffee", 1, 200)
    assert (row["is_active"], row["redeemed"], row["refunded"]) == (True, 0, 0)


def test_totals(world: World, day: dict[str, UUID]) -> None:
    (row,) = report(world, "totals")
    assert (row["total_events"], row["unique_users"]) == (6, 3)
    assert row["total_points_awarded"] == 500 + 20 + 10 - 200
    assert (row["points_earned"], row["points_spent"], row["points_expired"]) == (530, 200, 0)


def test_the_balance_audit_also_finds_who_has_no_cached_row(
    world: World, day: dict[str, UUID]
) -> None:
    assert report(world, "balance_audit") == []
    world.admin.execute(
        "update user_points_cache set available_points = 321 where user_id = %s", (day["alice"],)
    )
    world.admin.execute("delete from user_points_cache where user_id = %s", (day["bob"],))
    assert [tuple(row.values()) for row in report(world, "balance_audit")] == [
        (day["bob"], None, 10, -10),
        (day["alice"], 321, 320, 1),
    ]
    for user in day.values():
        world.refresh(user)


def test_coupon_codes(world: World, day: dict[str, UUID]) -> None:
    assert {row["coupons"] for row in report(world, "coupon_codes")} == {0}
    assert len(report(world, "coupon_codes")) == 4


def test_the_queue_and_what_is_stuck_in_it(world: World, day: dict[str, UUID]) -> None:
    (row,) = report(world, "queue")
    assert (row["pending"], row["stale_pending"], row["events_last_hour"]) == (1, 0, 6)
    assert (row["oldest_pending"], row["open_insights"]) == (NOW, 1)
    assert report(world, "stuck_events") == []
    world.pass_time(2 * HOUR)
    assert report(world, "queue")[0]["stale_pending"] == 1
    (stuck,) = report(world, "stuck_events")
    assert (stuck["user_id"], stuck["trust_score"]) == (day["carol"], None)


def test_one_users_balance_and_history(world: World, day: dict[str, UUID]) -> None:
    (row,) = report(world, "balance", day["carol"])
    assert (row["cached"], row["actual"], row["pending"], row["pending_events"]) == (0, None, 10, 1)
    (nobody,) = report(world, "balance", uuid4())
    assert (nobody["cached"], nobody["held"]) == (None, 0)
    history = report(world, "history", day["alice"])
    moves = [(row["event_type"], row["points_delta"]) for row in history]
    assert set(moves[:2]) == {("redeem_coupon", -200), ("admin_award", 500)}
    assert moves[2:] == [("workout", 20)]
    assert report(world, "history", day["alice"], 1)[0] == history[0]
    # The first two have one time.
    first = history[0]
    assert report(world, "history", day["alice"], 9, first["event_time"]) == history[2:]
    assert (
        report(world, "history", day["alice"], 9, first["event_time"], first["id"]) == history[1:]
    )


def test_insights_by_type(world: World, day: dict[str, UUID]) -> None:
    (row,) = report(world, "insights_by_type")
    assert (row["insight_type"], row["severity"]) == ("velocity_anomaly", "high")
    assert (row["count"], row["avg_score"], row["open"]) == (1, 0, 1)
    assert row["avg_hours_to_resolve"] is None


def test_damage_since(world: World, day: dict[str, UUID]) -> None:
    (row,) = report(world, "damage", NOW - HOUR)
    assert (row["affected_users"], row["events"], row["coupons"]) == (2, 5, 1)
    assert (row["total_points_affected"], row["points_awarded"]) == (340, 540)
    (row,) = report(world, "damage", NOW + HOUR)
    assert (row["affected_users"], row["total_points_affected"]) == (0, None)


def test_a_suspension_stops_everything_and_is_taken_back(
    world: World, day: dict[str, UUID]
) -> None:
    off = world.template(active=False, name="Old")
    say = {"user_id": None, "reason": "a bad deployment", "actor": "ops"}
    stopped = world.call("public.suspend_points", say, world.operator)
    assert stopped == {"events": 1, "templates": 1}
    assert world.count("coupon_templates", "is_active") == 0
    assert world.validate()["validated"] == 0
    assert world.cache(day["carol"]) == (0, 10, 0, 0)
    assert world.call("public.resume_points", say, world.operator) == stopped
    assert world.validate()["validated"] == 1
    assert world.count("coupon_templates", "is_active") == 1
    assert world.count("coupon_templates", "is_active and template_id = %s", off) == 0
    assert world.call("public.resume_points", say, world.operator) == {"events": 0, "templates": 0}
    rows = world.rows(
        "select action, actor, reason from audit_log where action like 'points.%%' order by 1 desc"
    )
    assert rows[0] == {"action": "points.suspend", "actor": "ops", "reason": "a bad deployment"}


def test_only_administrators_suspend_and_they_say_why(world: World) -> None:
    with refused("forbidden", 403):
        world.call("public.suspend_points", {"user_id": uuid4(), "reason": "x"}, world.functions)
    for procedure in ("suspend_points", "resume_points"):
        with refused("reason_required", 400):
            arguments = {"user_id": None, "reason": " "}
            world.call(f"public.{procedure}", arguments, world.operator)


def test_without_pg_cron_nothing_is_scheduled(world: World) -> None:
    assert world.value("select schedule_upkeep()", through=world.operator) == []


def test_a_migration_is_written_down_once(world: World) -> None:
    for _ in range(2):
        world.operator.execute(
            "select record_migration('20250725000001_points_and_coupons', 'me', 'staging', true)"
        )
    assert world.count("migration_audit", "environment = 'staging' and backup_taken") == 1

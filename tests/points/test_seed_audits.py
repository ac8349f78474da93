"""The runbook's queries, as the deployment guide prints them, run by an operator in an SQL editor.

Where they fail as printed, the correction is the inventory's (its part A.4) and stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from tests.world import World

BALANCE_AUDIT = """
    SELECT
      u.user_id,
      u.available_points as cached_points,
      COALESCE(SUM(p.points_delta) FILTER (WHERE p.validation_status = 'validated'), 0) as ledger_points,
      u.available_points - COALESCE(SUM(p.points_delta) FILTER (WHERE p.validation_status = 'validated'), 0) as discrepancy
    FROM user_points_cache u
    LEFT JOIN points_events p ON p.user_id = u.user_id
    GROUP BY u.user_id, u.available_points
    HAVING ABS(u.available_points - COALESCE(SUM(p.points_delta) FILTER (WHERE p.validation_status = 'validated'), 0)) > 0;
"""  # noqa: E501
BALANCE_AUDIT_COUNT = """
    SELECT COUNT(*) FROM (
      SELECT u.user_id,
        u.available_points - COALESCE(SUM(p.points_delta) FILTER (WHERE p.validation_status = 'validated'), 0) as disc
      FROM user_points_cache u
      LEFT JOIN points_events p ON p.user_id = u.user_id
      GROUP BY u.user_id, u.available_points
    ) subq WHERE ABS(disc) > 0;
"""  # noqa: E501


@dataclass(frozen=True)
class Day:
    """A day's work: alice earned and bought, bob went too fast, carol still waits."""

    alice: UUID
    bob: UUID
    carol: UUID
    coupon: UUID


@pytest.fixture
def day(world: World) -> Day:
    alice, bob, carol = world.user(points=500), world.user(), world.user()
    world.submit(alice, event_type="workout")
    moment = world.now()
    world.submit(bob, at=moment)
    world.submit(bob, at=moment)
    world.validate()
    coupon = world.redeem(alice, world.template(cost=200))["coupon_id"]
    world.submit(carol)
    return Day(alice, bob, carol, UUID(coupon))


def ask(world: World, query: str) -> list[tuple[object, ...]]:
    """What the operator's SQL editor shows."""
    return [tuple(row.values()) for row in world.rows(query, through=world.operator)]


def test_all_tables_are_there(world: World) -> None:
    tables = ask(
        world,
        """
        SELECT table_name FROM information_schema.tables
        WHERE table_schema = 'public' AND (
          table_name LIKE '%points%' OR
          table_name LIKE '%coupon%' OR
          table_name LIKE '%fraud%' OR
          table_name LIKE '%nonce%'
        );
        """,
    )
    assert {name for (name,) in tables} >= {
        "points_events",
        "user_points_cache",
        "coupons",
        "coupon_templates",
        "fraud_insights",
        "used_nonces",
    }


def test_the_checklists_shorter_lists_of_tables(world: World) -> None:
    tables = ask(
        world,
        """
        SELECT table_name FROM information_schema.tables
        WHERE table_schema = 'public' AND (
          table_name LIKE '%points%' OR table_name LIKE '%coupon%'
        );
        """,
    )
    assert ("points_events",) in tables and ("coupons",) in tables
    counted = """
        SELECT COUNT(*) FROM information_schema.tables
        WHERE table_name LIKE '%points%';
    """
    # Nothing is left after a full rollback, which is a restore into a new database.
    assert ask(world, counted)[0][0] > 0  # type: ignore[operator]


def test_row_security_is_on(world: World) -> None:
    rows = ask(
        world,
        """
        SELECT tablename, rowsecurity FROM pg_tables
        WHERE schemaname = 'public' AND tablename IN (
          'points_events', 'user_points_cache', 'coupons', 'coupon_templates'
        );
        """,
    )
    assert sorted(rows) == [
        ("coupon_templates", True),
        ("coupons", True),
        ("points_events", True),
        ("user_points_cache", True),
    ]


def test_policies_are_there(world: World) -> None:
    rows = ask(
        world,
        """
        SELECT tablename, COUNT(*) as policy_count
        FROM pg_policies
        WHERE schemaname = 'public'
        GROUP BY tablename;
        """,
    )
    counts = dict(rows)
    for table in ("points_events", "user_points_cache", "coupons", "coupon_templates"):
        assert counts[table] >= 1


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO used_nonces (user_id, nonce, event_type, payload_hash)"
        " SELECT user_id, nonce, event_type, 'other' FROM used_nonces",
        "INSERT INTO points_events (user_id, event_type, event_time, points_delta, payload_hash)"
        " SELECT user_id, event_type, event_time, points_delta, payload_hash FROM points_events",
    ],
    ids=["nonce", "payload hash"],
)
def test_a_duplicate_insert_fails(world: World, day: Day, insert: str) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        world.admin.execute(insert)


def test_event_validation_rate(world: World, day: Day) -> None:
    rows = ask(
        world,
        """
        SELECT
          validation_status,
          COUNT(*) as count,
          ROUND(AVG(trust_score), 2) as avg_trust_score
        FROM points_events
        WHERE created_at >= now() - interval '1 hour'
        GROUP BY validation_status;
        """,
    )
    assert sorted(rows, key=str) == [
        ("pending", 1, None),
        ("rejected", 1, Decimal("0.00")),
        ("validated", 4, Decimal("70.00")),
    ]


def test_error_rates(world: World, day: Day) -> None:
    rows = ask(
        world,
        """
        SELECT
          event_type,
          COUNT(*) FILTER (WHERE validation_status = 'rejected') as rejected,
          COUNT(*) as total,
          ROUND(100.0 * COUNT(*) FILTER (WHERE validation_status = 'rejected') / COUNT(*), 2) as reject_rate
        FROM points_events
        WHERE created_at >= now() - interval '1 hour'
        GROUP BY event_type;
        """,  # noqa: E501
    )
    assert sorted(rows) == [
        ("admin_award", 0, 1, Decimal("0.00")),
        ("habit_completion", 1, 3, Decimal("33.33")),
        ("redeem_coupon", 0, 1, Decimal("0.00")),
        ("workout", 0, 1, Decimal("0.00")),
    ]


def test_coupon_redemptions(world: World, day: Day) -> None:
    rows = ask(
        world,
        """
        SELECT
          status,
          COUNT(*) as count,
          SUM(issued_points_cost) as total_points
        FROM coupons
        WHERE issued_at >= now() - interval '1 hour'
        GROUP BY status;
        """,
    )
    assert rows == [("issued", 1, 200)]


def test_totals(world: World, day: Day) -> None:
    rows = ask(
        world,
        """
        SELECT
          COUNT(*) as total_events,
          COUNT(DISTINCT user_id) as unique_users,
          SUM(points_delta) FILTER (WHERE validation_status = 'validated') as total_points_awarded
        FROM points_events;
        """,
    )
    # Net, and not only awarded: what the coupon cost is taken off.
    assert rows == [(6, 3, 500 + 20 + 10 - 200)]


def test_the_balance_audit_finds_nothing(world: World, day: Day) -> None:
    assert ask(world, BALANCE_AUDIT) == []
    assert ask(world, BALANCE_AUDIT_COUNT) == [(0,)]


def test_the_balance_audit_finds_what_is_wrong(world: World, day: Day) -> None:
    world.admin.execute(
        "update user_points_cache set available_points = 331 where user_id = %s", (day.alice,)
    )
    assert ask(world, BALANCE_AUDIT) == [(day.alice, 331, 320, 11)]
    assert ask(world, BALANCE_AUDIT_COUNT) == [(1,)]
    # Its own remedy, as it stands there.
    assert ask(world, f"SELECT refresh_user_points_cache('{day.alice}');") == [(320,)]
    assert ask(world, BALANCE_AUDIT) == []


def test_the_balance_audit_counts_a_hold_as_still_there(world: World, day: Day) -> None:
    world.admin.execute(
        "select ledger.hold(%s, gen_random_uuid(), 'points', 100, 'test', gen_random_uuid(),"
        " now() + interval '1 hour')",
        (day.alice,),
    )
    assert ask(world, BALANCE_AUDIT) == []


def test_every_coupon_code_is_hashed(world: World, day: Day) -> None:
    assert ask(world, "SELECT COUNT(*) FROM coupons WHERE code_hash IS NULL;") == [(0,)]
    with pytest.raises(psycopg.errors.NotNullViolation):
        world.redeem(day.alice, world.template(cost=10), code_hash=None)


def test_no_coupon_code_is_there_twice(world: World, day: Day) -> None:
    duplicates = """
        SELECT COUNT(*) FROM (
          SELECT code_hash, COUNT(*) FROM coupons
          GROUP BY code_hash HAVING COUNT(*) > 1
        ) dupes;
    """
    assert ask(world, duplicates) == [(0,)]
    template = world.template(cost=10)
    code = world.value("select code_hash from coupons")
    with pytest.raises(psycopg.errors.UniqueViolation):
        world.redeem(day.alice, template, code_hash=code)


def test_few_events_are_stale(world: World, day: Day) -> None:
    stale = """
        SELECT COUNT(*) FROM points_events
        WHERE validation_status = 'pending'
        AND created_at < now() - interval '1 hour';
    """
    assert ask(world, stale) == [(0,)]
    stuck = """
        SELECT id, created_at, event_type, trust_score
        FROM points_events
        WHERE validation_status = 'pending'
        AND created_at < now() - interval '1 hour'
        ORDER BY created_at
        LIMIT 10;
    """
    world.admin.execute(
        "update points_events set created_at = now() - interval '61 minutes'"
        " where validation_status = 'pending'"
    )
    assert ask(world, stale) == [(1,)]
    assert [(row[2], row[3]) for row in ask(world, stuck)] == [("habit_completion", None)]


def test_events_of_the_last_hour(world: World, day: Day) -> None:
    rows = ask(
        world,
        """
        SELECT COUNT(*) as events_last_hour
        FROM points_events
        WHERE created_at >= now() - interval '1 hour';
        """,
    )
    assert rows == [(6,)]


def test_cached_and_actual_points_of_one_user(world: World, day: Day) -> None:
    rows = ask(
        world,
        f"""
        SELECT
          user_id,
          available_points as cached,
          (SELECT SUM(points_delta) FROM points_events WHERE user_id = upc.user_id AND validation_status = 'validated') as actual
        FROM user_points_cache upc
        WHERE user_id = '{day.alice}';
        """,  # noqa: E501
    )
    assert rows == [(day.alice, 320, 320)]


def test_bulk_refresh(world: World, day: Day) -> None:
    world.admin.execute("update user_points_cache set available_points = 1, pending_points = 1")
    rows = ask(
        world,
        """
        SELECT user_id, refresh_user_points_cache(user_id)
        FROM user_points_cache;
        """,
    )
    assert dict(rows) == {day.alice: 320, day.bob: 10, day.carol: 0}
    assert world.cache(day.carol) == (0, 10, 0, 0)


def test_fraud_of_the_last_day(world: World, day: Day) -> None:
    rows = ask(
        world,
        """
        SELECT
          insight_type,
          COUNT(*) as count,
          AVG(score) as avg_score
        FROM fraud_insights
        WHERE created_at >= now() - interval '24 hours'
        GROUP BY insight_type
        ORDER BY count DESC;
        """,
    )
    assert rows == [("velocity_anomaly", 1, Decimal(0))]


def test_why_a_redemption_fails(world: World, day: Day) -> None:
    (cache,) = world.rows(
        f"SELECT * FROM user_points_cache WHERE user_id = '{day.carol}';", through=world.operator
    )
    assert (cache["available_points"], cache["pending_points"]) == (0, 10)
    events = world.rows(
        f"""
        SELECT * FROM points_events
        WHERE user_id = '{day.carol}'
        ORDER BY created_at DESC
        LIMIT 10;
        """,
        through=world.operator,
    )
    assert [event["validation_status"] for event in events] == ["pending"]
    waiting = f"""
        SELECT COUNT(*) FROM points_events
        WHERE user_id = '{day.carol}'
        AND validation_status IN ('pending', 'pending_review');
    """
    assert ask(world, waiting) == [(1,)]


def test_damage_since_a_deployment(world: World, day: Day) -> None:
    since = "2020-01-01"
    # The guide's COUNT(*) counts events, whatever it calls them; the checklist's counts users,
    # and what still waits as well.
    guide = f"""
        SELECT
          COUNT(*) as affected_users,
          SUM(points_delta) as total_points_affected
        FROM points_events
        WHERE created_at >= '{since}'
        AND validation_status IN ('validated', 'rejected');
    """
    checklist = f"""
        SELECT
          COUNT(DISTINCT user_id) as affected_users,
          SUM(points_delta) as total_points_affected
        FROM points_events
        WHERE created_at >= '{since}';
    """
    assert ask(world, guide) == [(5, 500 + 20 + 10 + 10 - 200)]
    assert ask(world, checklist) == [(3, 500 + 20 + 10 + 10 - 200 + 10)]
    # Ours takes of each what its name says.
    (row,) = world.rows(f"select * from report_damage('{since}')", through=world.operator)
    assert (row["affected_users"], row["events"], row["total_points_affected"]) == (2, 5, 340)


def test_partial_rollback_keeps_the_data_and_stops_the_features(world: World, day: Day) -> None:
    world.operator.execute(
        """
        UPDATE points_events
        SET validation_status = 'pending_review'
        WHERE validation_status = 'pending';

        UPDATE coupon_templates
        SET is_active = false;
        """
    )
    assert world.validate()["events"] == []
    assert world.cache(day.carol) == (0, 10, 0, 0)
    assert world.count("coupon_templates", "is_active") == 0


def test_points_are_awarded_by_hand(world: World, day: Day) -> None:
    world.operator.execute(
        f"""
        INSERT INTO points_events (
          user_id, event_type, event_time, points_delta,
          proof_type, validation_status, validated_by
        ) VALUES (
          '{day.carol}', 'admin_award', now(), 100,
          'manual_admin', 'validated', 'ops@example.org'
        );
        """
    )
    assert ask(world, f"SELECT refresh_user_points_cache('{day.carol}');") == [(100,)]
    assert world.cache(day.carol) == (100, 10, 100, 0)
    assert ask(world, BALANCE_AUDIT) == []
    (written,) = world.rows("select * from audit_log where actor = 'ops@example.org'")
    assert (written["action"], written["after"]["points"]) == ("points.award", 100)
    assert written["after"]["user_id"] == str(day.carol)


def test_a_coupon_is_revoked_and_its_points_are_given_back(world: World, day: Day) -> None:
    world.operator.execute(
        f"""
        UPDATE coupons
        SET status = 'revoked', updated_at = now()
        WHERE coupon_id = '{day.coupon}';

        INSERT INTO points_events (
          user_id, event_type, event_time, points_delta,
          proof_type, validation_status, validated_by,
          related_entity_type, related_entity_id
        ) VALUES (
          '{day.alice}', 'coupon_refund', now(), 200,
          'manual_admin', 'validated', 'ops@example.org',
          'coupon', '{day.coupon}'
        );
        """
    )
    assert ask(world, f"SELECT refresh_user_points_cache('{day.alice}');") == [(520,)]
    assert ask(world, BALANCE_AUDIT) == []
    assert world.value("select status from coupons") == "revoked"


def test_a_users_history(world: World, day: Day) -> None:
    rows = ask(
        world,
        f"""
        SELECT
          event_time,
          event_type,
          points_delta,
          validation_status,
          trust_score,
          validated_by
        FROM points_events
        WHERE user_id = '{day.alice}'
        ORDER BY event_time DESC;
        """,
    )
    assert [row[1:] for row in rows] == [
        ("redeem_coupon", -200, "validated", None, "system"),
        ("admin_award", 500, "validated", None, "op@example.org"),
        ("workout", 20, "validated", Decimal("70.00"), "system"),
    ]


def test_a_migration_is_written_down(world: World) -> None:
    audit = """
        INSERT INTO migration_audit (
          migration_name, applied_by, environment, backup_taken, notes
        ) VALUES (
          '20250725000001_points_and_coupons',
          'your-name',
          'production',
          true,
          'Production deployment after successful staging test'
        );
    """
    world.operator.execute(audit)
    world.operator.execute(audit.replace("'production'", "'staging'"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        world.operator.execute(audit)

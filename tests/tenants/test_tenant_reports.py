"""The tenants' runbook: its queries as they are printed, by an operator, and as reports.

Where one fails as printed, the correction is the inventory's (its part A.4) and stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.logs import allocated, billed, given, minutes
from tests.world import World

DAY = timedelta(days=1)


class Month(NamedTuple):
    """A month's work: Acme was given twice, Zenith once, Nihil nothing."""

    acme: UUID
    zenith: UUID
    nihil: UUID
    now: datetime


@pytest.fixture
def month(company: Company) -> Month:
    now = company.world.now().astimezone(UTC)
    acme, zenith = company.tenant(name="Acme"), company.tenant(name="Zenith")
    nihil = company.tenant(name="Nihil")
    allocated(company, acme, 10_000, now - 8 * DAY)
    allocated(company, zenith, 5_000, now - 7 * DAY)
    allocated(company, acme, 500, now, reference_note="Post-deployment test")
    allocated(company, zenith, 77, now - 90 * DAY)
    company.world.operator.execute("set timezone = 'UTC'")
    return Month(acme, zenith, nihil, now)


def run(world: World, query: str) -> list[dict[str, Any]]:
    """What an operator is shown for what is printed."""
    return world.rows(query, through=world.operator)


def report(world: World, name: str, **arguments: object) -> list[dict[str, Any]]:
    """The same as a report."""
    named = ", ".join(f"p_{name} => %({name})s" for name in arguments)
    return world.rows(f"select * from report_{name}({named})", arguments, world.operator)  # type: ignore[arg-type]


def values(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rows]


def test_the_first_day(world: World, month: Month) -> None:
    assert values(run(world, "SELECT COUNT(*) FROM allocation_logs;")) == [(4,)]
    assert values(run(world, "SELECT 1")) == [(1,)]
    latest = report(world, "allocations", limit=1)
    assert (latest[0]["tenant"], latest[0]["reference_note"]) == ("Acme", "Post-deployment test")


def test_the_daily_check(world: World, month: Month) -> None:
    printed = run(
        world,
        """
        -- Run daily sanity checks
        SELECT
          COUNT(*) as total_tenants,
          SUM(budget_allocation_balance) as total_allocated_budget,
          MIN(budget_allocation_balance) as min_balance,
          MAX(budget_allocation_balance) as max_balance
        FROM tenants;
        """,
    )
    assert values(printed) == [(3, 15_577, 0, 10_500)]
    [row] = report(world, "tenant_totals")
    assert {name: row[name] for name in printed[0]} == printed[0]
    assert (row["empty"], row["low"], row["below_zero"]) == (1, 0, 0)
    world.operator.execute("update tenants set low_balance_threshold = 6000")
    assert report(world, "tenant_totals")[0]["low"] == 1


def test_nothing_is_below_zero(world: World, month: Month) -> None:
    for column in ("budget_allocation_balance", "points_allocation_balance"):
        assert run(world, f"SELECT * FROM tenants WHERE {column} < 0; -- Should be empty") == []
    assert report(world, "tenants_below_zero") == []
    # And if it were, it would be seen.
    with pytest.raises(psycopg.errors.CheckViolation, match="positive_points_allocation_balance"):
        world.admin.execute("update tenants set points_allocation_balance = -1")
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("set local session_replication_role = replica")
        world.admin.execute(
            "alter table tenants drop constraint positive_points_allocation_balance"
        )
        world.admin.execute("alter table wallets drop constraint wallets_balance_check")
        world.admin.execute(
            "update tenants set points_allocation_balance = -1 where id = %s", (month.acme,)
        )
        world.admin.execute(
            "insert into wallets (tenant_id, user_id, balance) values (%s, %s, -2)",
            (month.zenith, month.nihil),
        )
        found = world.rows("select what, balance from report_tenants_below_zero()")
        assert values(found) == [("wallet", -2), ("pool", -1)]


def test_the_latest_allocations(world: World, month: Month) -> None:
    printed = run(world, "SELECT * FROM allocation_logs ORDER BY created_at DESC LIMIT 5;")
    assert [row["amount"] for row in printed] == [500, 5_000, 10_000, 77]
    assert [row["id"] for row in report(world, "allocations")] == [row["id"] for row in printed]


def test_allocation_activity(world: World, month: Month) -> None:
    printed = run(
        world,
        """
        -- Allocation activity
        SELECT
          DATE(created_at) as date,
          COUNT(*) as allocation_count,
          SUM(amount) as total_allocated
        FROM allocation_logs
        GROUP BY DATE(created_at)
        ORDER BY date DESC
        LIMIT 30;
        """,
    )
    today = month.now.date()
    assert values(printed)[:3] == [
        (today, 1, 500),
        (today - 7 * DAY, 1, 5_000),
        (today - 8 * DAY, 1, 10_000),
    ]
    found = values(report(world, "allocations_by_day"))
    assert [row[:3] for row in found] == values(printed)[:3]
    assert found[0][3] == 1
    assert len(report(world, "allocations_by_day", since=100 * DAY)) == 4


def test_tenant_activity(world: World, month: Month) -> None:
    printed = run(
        world,
        """
        -- Tenant activity
        SELECT
          t.name,
          COUNT(al.id) as allocation_count,
          SUM(al.amount) as total_received,
          t.points_allocation_balance as current_balance
        FROM tenants t
        LEFT JOIN allocation_logs al ON t.id = al.tenant_id
        GROUP BY t.id, t.name
        ORDER BY t.points_allocation_balance DESC;
        """,
    )
    assert values(printed) == [
        ("Acme", 2, 10_500, 10_500),
        ("Zenith", 2, 5_077, 5_077),
        ("Nihil", 0, None, 0),
    ]
    found = report(world, "tenant_balances")
    names = ("name", "allocation_count", "total_received", "current_balance")
    shown = [tuple(row[name] or 0 for name in names) for row in found]
    assert shown == [tuple(value or 0 for value in row) for row in values(printed)]
    assert len(report(world, "tenant_balances", limit=1)) == 1


def test_the_weekly_summary(world: World, month: Month) -> None:
    printed = run(
        world,
        """
        -- Weekly allocation summary
        SELECT
          DATE_TRUNC('week', created_at) as week,
          COUNT(*) as allocations,
          SUM(amount) as total_points_allocated,
          COUNT(DISTINCT tenant_id) as tenants_allocated_to
        FROM allocation_logs
        WHERE created_at >= CURRENT_DATE - INTERVAL '30 days'
        GROUP BY DATE_TRUNC('week', created_at)
        ORDER BY week DESC;
        """,
    )
    found = report(world, "allocations_by_week")
    assert [(row["week"].date(), *list(row.values())[1:]) for row in printed] == values(found)
    assert sum(row["total_points_allocated"] for row in found) == 15_500
    assert found[0]["week"].weekday() == 0


def test_top_tenants(world: World, month: Month) -> None:
    printed = run(
        world,
        """
        -- Top tenants by allocation
        SELECT
          t.name,
          t.points_allocation_balance,
          COUNT(al.id) as allocation_count,
          SUM(al.amount) as total_received
        FROM tenants t
        LEFT JOIN allocation_logs al ON t.id = al.tenant_id
        GROUP BY t.id, t.name
        ORDER BY SUM(al.amount) DESC
        LIMIT 20;
        """,
    )
    # As printed, who never received anything comes first: null is the greatest.
    assert [row["name"] for row in printed] == ["Nihil", "Acme", "Zenith"]
    found = [tuple(row.values())[:4] for row in report(world, "top_tenants")]
    assert found == values(printed)[1:]
    late = report(world, "top_tenants", limit=1, since=timedelta(hours=1))
    assert [(row["name"], row["total_received"]) for row in late] == [("Acme", 500)]


def test_what_is_looked_at_monthly(company: Company, world: World, month: Month) -> None:
    billed(company, month.acme, -40, "CLAWBACK", month.now - DAY, reference_note="too much")
    billed(company, month.acme, -4, "REVERSAL", month.now)
    billed(company, month.zenith, -3, "CLAWBACK", month.now - 60 * DAY)
    billed(company, month.zenith, -2, "EXPIRY", month.now)
    found = report(world, "clawbacks")
    assert [(r["tenant"], r["transaction_type"], r["amount"]) for r in found] == [
        ("Acme", "REVERSAL", -4),
        ("Acme", "CLAWBACK", -40),
    ]
    assert len(report(world, "clawbacks", since=90 * DAY)) == 3
    assert report(world, "large_allocations") == []
    above = report(world, "large_allocations", above=4_999)
    assert [row["amount"] for row in above] == [10_000, 5_000]


def test_a_large_allocation_is_a_signal_for_a_day(company: Company, month: Month) -> None:
    world = company.world
    allocated(company, month.acme, 1_000_000, month.now)
    allocated(company, month.acme, "2000000", month.now - 2 * DAY)
    signal = "select name, amount from tenant_large_allocations"
    assert run(world, signal) == []
    one = allocated(company, month.zenith, "1000000.01", month.now)
    assert values(run(world, signal)) == [("Zenith", Decimal("1000000.01"))]
    # One number says what is large, also to the alert.
    world.operator.execute("update allocation_limits set large_allocation_above = 999999.99")
    assert len(run(world, signal)) == 2
    world.operator.execute("update allocation_limits set large_allocation_above = null")
    assert run(world, signal) == []
    world.operator.execute("set tallybook.large_allocation = '999999'")
    assert len(run(world, signal)) == 2
    assert report(world, "large_allocations")[1]["id"] == one


def test_what_is_looked_at_quarterly(company: Company, world: World, month: Month) -> None:
    given(company, month.zenith, 4, company.member(month.zenith), at=month.now - minutes(9))
    found = report(world, "usage_by_tenant", since=90 * DAY + minutes(1))
    assert [(row["name"], row["allocated"], row["awarded"]) for row in found] == [
        ("Zenith", 5_077, 10),
        ("Acme", 10_500, 0),
        ("Nihil", 0, 0),
    ]


def test_usage_by_tenant(company: Company, world: World, month: Month) -> None:
    ada, bob = company.member(month.acme), company.member(month.acme)
    given(company, month.acme, 20, ada, bob, at=month.now - minutes(30))
    company.move(month.acme, f"tenant.wallet:{ada}", "tenant.redeemed", 30, "redemption")
    row = report(world, "usage_by_tenant")[0]
    assert (row["name"], row["tenant_id"], row["allocated"]) == ("Acme", month.acme, 10_500)
    assert (row["awarded"], row["awards"], row["recipients"]) == (210, 20, 2)
    assert (row["redeemed"], row["balance"], row["used"]) == (30, 10_290, 2)
    used = {row["name"]: row["used"] for row in report(world, "usage_by_tenant")}
    assert used == {"Acme": 2, "Zenith": 0, "Nihil": None}


def test_what_members_give_on_was_awarded_once(
    company: Company, world: World, month: Month
) -> None:
    ada, bob = company.member(month.acme), company.member(month.acme)
    manager = company.member(month.acme, "tenant_manager")

    def give(giver: UUID, to: UUID, points: int) -> str:
        asked = {"recipients": [to], "points": points, "message": "Well done"}
        given: str = company.call("give_recognition", user_id=giver, **asked)["recognition_id"]
        return given

    give(manager, ada, 100)
    revoked = give(manager, ada, 30)
    give(ada, bob, 60)
    company.call(
        "revoke_recognition",
        user_id=None,
        tenant_id=month.acme,
        recognition_id=revoked,
        reason="x",
    )
    # What an older system kept for somebody was never of the pool.
    company.call(
        "credit_wallet",
        user_id=None,
        tenant_id=month.acme,
        to_user_id=bob,
        amount=500,
        source="hr_allocation",
        reason="x",
    )
    (row,) = [row for row in report(world, "usage_by_tenant") if row["name"] == "Acme"]
    assert (row["awarded"], row["awards"], row["recipients"]) == (100, 1, 1)
    assert (row["balance"], row["used"]) == (10_400, Decimal("0.95"))


@pytest.fixture
def spoiled(world: World, month: Month) -> Iterator[None]:
    """Somebody wrote past everything that watches."""
    change = "update tenants set points_allocation_balance = points_allocation_balance + %s"
    for delta in (5, -5):
        with world.admin.transaction():
            world.admin.execute("set local session_replication_role = replica")
            world.admin.execute(f"{change} where name = 'Acme'", (delta,))
        if delta > 0:
            yield


def test_the_yearly_audit_finds_what_is_wrong(world: World, month: Month, spoiled: None) -> None:
    [row] = report(world, "tenant_audit")
    assert (row["tenant_id"], row["subject"]) == (month.acme, "tenant.pool")
    assert (row["expected"], row["actual"]) == ("10500.00", "10505.00")


def test_the_yearly_audit_finds_nothing(world: World, month: Month) -> None:
    assert report(world, "tenant_audit") == []


def test_the_latest_hundred_of_a_tenant_come_by_an_index(
    company: Company, world: World, month: Month
) -> None:
    world.admin.execute(
        "insert into allocation_logs (tenant_id, actor, amount, created_at)"
        " select case when g.n %% 100 = 0 then %s else gen_random_uuid() end, 'op', 1,"
        " now() - g.n * interval '1 minute' from generate_series(1, 20000) as g(n)",
        (month.nihil,),
    )
    world.admin.execute("analyze allocation_logs")
    plan = run(
        world,
        """
        -- Analyze query performance
        EXPLAIN ANALYZE
        SELECT * FROM allocation_logs
        WHERE tenant_id = 'uuid'
        ORDER BY created_at DESC LIMIT 100;
        """.replace("uuid", str(month.nihil)),
    )
    told = "\n".join(row["QUERY PLAN"] for row in plan)
    assert "idx_allocation_logs_tenant_id" in told
    assert "Seq Scan" not in told
    found = report(world, "allocations", tenant_id=month.nihil)
    assert len(found) == 100
    assert [r["created_at"] for r in found] == sorted(
        (row["created_at"] for row in found), reverse=True
    )


def test_the_indexes_of_the_guide_are_there(world: World) -> None:
    """They were made with the tables, so that making them again is refused as printed."""
    for statement in (
        "CREATE INDEX idx_allocation_logs_created_at ON allocation_logs(created_at DESC);",
        "CREATE INDEX idx_allocation_logs_status"
        " ON allocation_logs(status) WHERE status = 'COMPLETED';",
    ):
        with pytest.raises(psycopg.errors.DuplicateTable):
            world.admin.execute(statement)  # type: ignore[arg-type]


def test_the_audit_queries(company: Company, world: World, month: Month) -> None:
    logs = run(
        world,
        """
        -- Check allocation logs
        SELECT * FROM allocation_logs ORDER BY created_at DESC LIMIT 10;
        """,
    )
    assert [row["id"] for row in report(world, "allocations", limit=10)] == [r["id"] for r in logs]
    trail = run(
        world,
        """
        -- Check platform billing logs
        SELECT * FROM platform_billing_logs ORDER BY created_at DESC LIMIT 10;
        """,
    )
    assert [row["id"] for row in report(world, "billing", limit=10)] == [r["id"] for r in trail]
    assert len(report(world, "billing", tenant_id=month.zenith)) == 2
    balances = run(
        world,
        """
        -- Check tenant balances
        SELECT id, name, points_allocation_balance FROM tenants;
        """,
    )
    assert {row["id"]: row["points_allocation_balance"] for row in balances} == {
        row["tenant_id"]: row["current_balance"] for row in report(world, "tenant_balances")
    }
    given(company, month.acme, 1, company.member(month.acme))
    for table in ("allocation_logs", "wallet_ledger"):
        for order in ("", " DESC"):
            printed = f"SELECT * FROM {table} WHERE tenant_id = 'xxx' ORDER BY created_at{order};"
            assert run(world, printed.replace("xxx", str(month.acme)))
    admin = company.admin()
    printed = "SELECT * FROM system_admins WHERE id = 'admin-id';"
    assert len(run(world, printed.replace("admin-id", str(admin)))) == 1
    for table in ("allocation_logs", "platform_billing_logs"):
        assert len(run(world, f"SELECT * FROM {table} LIMIT 1;")) == 1
    assert len(run(world, "SELECT points_allocation_balance FROM tenants LIMIT 1;")) == 1


def test_both_tables_and_the_column_are_there(world: World) -> None:
    """psql's `\\dt a b` takes one pattern (X-47): this is what it was to tell."""
    found = run(
        world,
        "select tablename::text from pg_tables where schemaname = 'public'"
        " and tablename in ('allocation_logs', 'platform_billing_logs') order by 1",
    )
    assert values(found) == [("allocation_logs",), ("platform_billing_logs",)]
    [column] = run(
        world,
        "select format_type(atttypid, atttypmod) as type, attnotnull from pg_attribute"
        " where attrelid = 'tenants'::regclass and attname = 'points_allocation_balance'",
    )
    assert values([column]) == [("numeric(15,2)", True)]

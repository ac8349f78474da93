"""Whoever runs low is told once, by whatever way it happened; whoever wants is filled again."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID

import pytest

from tests.tenants.company import Company
from tests.world import Connection


def refill(company: Company, through: Connection | None = None, limit: int = 100) -> Any:
    return company.call("refill_pools", through or company.world.worker, limit=limit)


def spend(company: Company, tenant: UUID, points: str | int) -> None:
    company.move(tenant, "tenant.pool", f"tenant.lead:{company.member(tenant)}", points)


def test_a_crossing_is_told_once(company: Company) -> None:
    tenant = company.tenant(150)
    spend(company, tenant, 50)
    assert company.alerts(tenant) == []
    spend(company, tenant, "0.01")
    spend(company, tenant, 40)
    assert company.alerts(tenant) == ["low_balance"]
    (row,) = company.world.rows("select threshold, balance from tenant_alerts")
    assert tuple(row.values()) == (D(100), D("99.99"))
    spend(company, tenant, "59.99")
    assert company.alerts(tenant) == ["low_balance", "empty"]
    # What rises but not so high arms nothing; what rises above does.
    company.fund(tenant, 99)
    company.allocate(tenant, 1)
    spend(company, tenant, 100)
    assert sorted(company.alerts(tenant)) == ["empty", "empty", "low_balance", "low_balance"]
    company.fund(tenant, 99)
    spend(company, tenant, 1)
    assert company.alerts(tenant).count("low_balance") == 2


@pytest.mark.parametrize("way", ["clawback", "by hand", "politely", "reversal", "expiry"])
def test_by_whatever_way_it_falls(company: Company, way: str) -> None:
    company.world.freeze()
    tenant = company.tenant(low_balance_threshold=10, expiry_policy="90_days")
    allocation = company.allocate(tenant, 100)["allocation_log_id"]
    why = {"user_id": None, "tenant_id": tenant, "reason": "x"}
    match way:
        case "clawback":
            company.call("clawback_allocation", **why)
        case "by hand":
            company.world.admin.execute("update tenants set points_allocation_balance = 0")
        case "politely":
            company.call("adjust_tenant_pool_to", balance=D(0), **why)
        case "reversal":
            company.call("reverse_allocation", allocation_id=allocation, **why)
        case "expiry":
            company.world.admin.execute("update tenants set allocations_due_at = '2000-01-01'")
            company.world.admin.execute("update allocation_logs set expires_at = '2000-01-01'")
            company.call("expire_allocations", company.world.worker)
    assert sorted(company.alerts(tenant)) == ["empty", "low_balance"]


def test_a_threshold_of_nothing_tells_only_of_nothing(company: Company) -> None:
    tenant = company.tenant(10, low_balance_threshold=0)
    spend(company, tenant, 10)
    assert company.alerts(tenant) == ["empty"]


def test_a_large_allocation_is_told(company: Company) -> None:
    tenant = company.tenant()
    company.allocate(tenant, 1_000_000)
    assert company.alerts(tenant) == []
    company.allocate(tenant, "1000000.01", idempotency_key="k")
    company.allocate(tenant, "1000000.01", idempotency_key="k")
    (row,) = company.world.rows("select kind, threshold, balance from tenant_alerts")
    assert tuple(row.values()) == ("large_allocation", D(1_000_000), D("2000000.01"))
    company.world.operator.execute("update allocation_limits set large_allocation_above = 5")
    company.allocate(tenant, 6)
    assert len(company.alerts(tenant)) == 2


def test_a_pool_is_filled_again_when_it_crosses(company: Company) -> None:
    tenant = company.tenant(300, auto_refill_amount=1000, expiry_policy="1_year")
    company.tenant(3)
    company.tenant(3, auto_refill_amount=1000, is_active=False)
    spend(company, tenant, 100)
    assert refill(company) == {"refilled": 0, "points": "0"}
    spend(company, tenant, "0.01")
    assert refill(company) == {"refilled": 1, "points": "1000"}
    assert refill(company) == {"refilled": 0, "points": "0"}
    assert company.pool(tenant) == "1199.99"
    assert company.billing(tenant) == [("REFILL", "1000")]
    assert company.alerts(tenant) == ["refilled"]
    (row,) = company.world.rows("select actor, allocated_by, expires_at from allocation_logs")
    assert (row["actor"], row["allocated_by"], row["expires_at"] is None) == ("system", None, False)
    spend(company, tenant, 1000)
    assert refill(company)["refilled"] == 1


def test_only_so_many_at_a_time(company: Company) -> None:
    for _ in range(3):
        company.tenant(auto_refill_amount=10)
    assert [refill(company, limit=2)["refilled"] for _ in range(3)] == [2, 1, 0]


def test_at_once_a_pool_is_filled_once(company: Company) -> None:
    tenants: list[UUID] = [company.tenant(n, auto_refill_amount=100) for n in (0, 5)]
    company.world.at_once([lambda session: refill(company, session)] * 5, "tallybook_worker")
    assert [company.pool(tenant) for tenant in tenants] == ["100", "105"]

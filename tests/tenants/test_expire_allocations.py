"""What the platform allocated ends when the tenant's policy says so: what is left of each lot."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import pytest

from tests.tenants.company import Company
from tests.world import Connection, code_of, refused

EVER = timedelta(days=400)


@pytest.fixture
def tenant(company: Company) -> UUID:
    company.world.freeze()
    return company.tenant(expiry_policy="90_days")


def expire(company: Company, through: Connection | None = None, limit: int = 100) -> Any:
    return company.call("expire_allocations", through or company.world.worker, limit=limit)


def spend(company: Company, tenant: UUID, points: int) -> None:
    company.move(
        tenant, "tenant.pool", f"tenant.wallet:{company.member(tenant)}", points, "recognition"
    )


def logs(company: Company) -> list[tuple[str, D]]:
    rows = company.world.rows(
        "select status, expired_amount from allocation_logs order by created_at, id"
    )
    return [(row["status"], row["expired_amount"]) for row in rows]


@pytest.mark.parametrize(
    ("policy", "days"), [("90_days", 90), ("180_days", 180), ("1_year", 365), ("never", None)]
)
def test_a_lot_ends_as_the_policy_says(company: Company, policy: str, days: int | None) -> None:
    company.world.freeze()
    tenant = company.tenant(expiry_policy=policy)
    company.allocate(tenant, 100)
    company.world.pass_time(timedelta(days=days or 4000) - timedelta(seconds=1))
    assert expire(company) == {"expired": 0, "lots": 0, "points": "0"}
    company.world.pass_time(timedelta(seconds=1))
    expected = {"expired": 1, "lots": 1, "points": "100"} if days else expire(company)
    assert expire(company) == expected
    assert company.pool(tenant) == ("0" if days else "100")
    assert company.billing(tenant)[1:] == ([("EXPIRY", "-100")] if days else [])
    assert logs(company) == [("EXPIRED", D(100)) if days else ("COMPLETED", D(0))]
    assert expire(company) == {"expired": 0, "lots": 0, "points": "0"}


def test_first_come_first_spent(company: Company, tenant: UUID) -> None:
    first = company.allocate(tenant, 100)["allocation_log_id"]
    company.world.pass_time(timedelta(days=30))
    company.allocate(tenant, 50)
    spend(company, tenant, 70)
    company.world.pass_time(timedelta(days=60))
    assert expire(company)["points"] == "30"
    (row,) = company.world.rows(
        "select * from platform_billing_logs where transaction_type = 'EXPIRY'"
    )
    assert (str(row["allocation_id"]), row["amount"], row["balance_after"], row["actor"]) == (
        first, D(-30), D(50), "system",
    )  # fmt: skip
    spend(company, tenant, 50)
    company.world.pass_time(timedelta(days=30))
    assert expire(company) == {"expired": 1, "lots": 0, "points": "0"}
    assert logs(company) == [("EXPIRED", D(30)), ("COMPLETED", D(0))]
    assert company.world.value("select allocations_due_at is null from tenants")


def test_what_was_reversed_or_clawed_back_expires_no_more(company: Company, tenant: UUID) -> None:
    first = company.allocate(tenant, 100)["allocation_log_id"]
    company.world.pass_time(timedelta(days=1))
    second = company.allocate(tenant, 100)["allocation_log_id"]
    why = {"user_id": None, "tenant_id": tenant, "reason": "x"}
    company.call("reverse_allocation", allocation_id=first, amount=D(20), **why)
    company.call("clawback_allocation", amount=D(30), **why)
    company.world.pass_time(timedelta(days=89))
    assert expire(company)["points"] == "50"
    company.call("reverse_allocation", allocation_id=second, amount=D(60), **why)
    company.world.pass_time(timedelta(days=1))
    assert expire(company)["points"] == "40"
    assert logs(company) == [("EXPIRED", D(50)), ("EXPIRED", D(40))]


def test_what_was_reversed_of_a_later_lot_is_not_the_earlier_s(
    company: Company, tenant: UUID
) -> None:
    company.allocate(tenant, 100)
    company.world.pass_time(timedelta(days=1))
    second = company.allocate(tenant, 100)["allocation_log_id"]
    why = {"user_id": None, "tenant_id": tenant, "reason": "x"}
    company.call("reverse_allocation", allocation_id=second, amount=D(60), **why)
    company.world.pass_time(timedelta(days=89))
    assert expire(company)["points"] == "100"
    assert company.pool(tenant) == "40"


def test_what_expired_is_not_taken_back_as_well(company: Company, tenant: UUID) -> None:
    first = company.allocate(tenant, 100)["allocation_log_id"]
    spend(company, tenant, 40)
    company.world.pass_time(timedelta(days=90))
    company.allocate(tenant, 500)
    assert expire(company)["points"] == "60"
    why = {"user_id": None, "tenant_id": tenant, "allocation_id": first, "reason": "x"}
    with refused("not_reversible", 409, "amount: 40 of 100 "):
        company.call("reverse_allocation", amount=D("40.01"), **why)
    answer = company.call("reverse_allocation", **why)
    assert (answer["amount_reversed"], answer["status"]) == ("40", "REVOKED")
    assert company.pool(tenant) == "460"


def test_what_was_put_right_by_hand_keeps(company: Company, tenant: UUID) -> None:
    company.allocate(tenant, 100)
    spend(company, tenant, 100)
    company.world.pass_time(EVER)
    company.world.admin.execute("update tenants set points_allocation_balance = 500")
    company.allocate(tenant, 7)
    # A note about money that moved elsewhere is no lot.
    company.world.admin.execute(
        "insert into platform_billing_logs (tenant_id, actor, amount, transaction_type)"
        " values (%s, 'dba', 1000, 'ADJUSTMENT')",
        (tenant,),
    )
    company.world.pass_time(EVER)
    assert expire(company)["points"] == "7"
    assert company.pool(tenant) == "500"


def test_what_comes_back_from_a_lead_is_as_old_as_it_was(company: Company, tenant: UUID) -> None:
    manager, lead = company.member(tenant, "hr_admin"), company.member(tenant, "manager")
    company.allocate(tenant, 100)
    company.delegate(manager, lead, 60)
    company.world.pass_time(EVER)
    assert expire(company)["points"] == "40"
    assert company.lead_budget(tenant, lead) == "60"
    company.call("recall_from_lead", user_id=manager, lead_user_id=lead, amount=D(25))
    assert expire(company)["points"] == "25"
    assert company.pool(tenant) == "0"
    assert logs(company) == [("EXPIRED", D(65))]


def test_only_so_many_at_a_time(company: Company, tenant: UUID) -> None:
    tenants = [tenant, *(company.tenant(expiry_policy="90_days") for _ in range(2))]
    for each in tenants:
        company.allocate(each, 10)
    company.world.pass_time(EVER)
    assert [expire(company, limit=2)["expired"] for _ in range(3)] == [2, 1, 0]
    assert [company.pool(each) for each in tenants] == ["0"] * 3


def test_at_once_it_expires_once(company: Company, tenant: UUID) -> None:
    company.allocate(tenant, 100)
    company.world.pass_time(EVER)
    asked = {"user_id": None, "tenant_id": tenant, "amount": D(5)}
    answers = company.world.at_once(
        [
            *([lambda session: company.call("expire_allocations", session, limit=9)] * 4),
            lambda session: company.call("allocate_to_tenant", session, **asked),
        ],
        "tallybook_operator",
    )
    assert [code_of(answer) for answer in answers if not isinstance(answer, dict)] == []
    assert company.billing(tenant).count(("EXPIRY", "-100")) == 1
    assert company.pool(tenant) == "5"
    company.world.pass_time(EVER)
    assert expire(company)["points"] == "5"


def test_what_a_revoked_recognition_brings_back_is_as_old_as_it_was(
    company: Company, tenant: UUID
) -> None:
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    company.allocate(tenant, 100)
    given = company.call(
        "give_recognition", user_id=manager, recipients=[member], points=100, message="Well done"
    )["recognition_id"]
    company.world.pass_time(timedelta(days=90))
    assert expire(company)["points"] == "0"
    company.call(
        "revoke_recognition", user_id=None, tenant_id=tenant, recognition_id=given, reason="Fraud"
    )
    assert (company.pool(tenant), expire(company)["points"]) == ("100", "100")
    assert (company.pool(tenant), logs(company)) == ("0", [("EXPIRED", D(100))])

"""What a database administrator writes into a lead's or a department's budget becomes a posting."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.tenants.company import Company
from tests.world import refused


def adjustments(company: Company) -> list[tuple[Any, ...]]:
    return [
        tuple(row.values())
        for row in company.world.rows(
            "select actor, subject_type, reason, before ->> 'balance' as was,"
            " after ->> 'balance' as balance"
            " from audit_log where action = 'budget.adjustment' order by recorded_at, audit_id"
        )
    ]


def came_from(company: Company, account: str) -> list[int]:
    """What an account gave, in hundredths; below zero: what it was given."""
    return [
        row["amount"]
        for row in company.world.rows(
            "select case when from_account = %(account)s then amount else -amount end as amount"
            " from ledger.transfers where %(account)s in (from_account, to_account)"
            " order by transfer_id",
            {"account": account},
        )
    ]


@pytest.mark.parametrize("who", ["postgres", "tallybook_operator"])
def test_a_department_is_filled_from_what_there_was_of_old(company: Company, who: str) -> None:
    tenant = company.tenant(allocation_mode="legacy_fallback")
    session = company.world.session(who)
    session.execute("set tallybook.reason = 'moved here'")
    department: UUID = company.world.value(
        "insert into departments (tenant_id, name, budget_balance) values (%s, 'Sales', 100)"
        " returning id",
        (tenant,),
        through=session,
    )
    assert company.budget(tenant, department) == "100"
    manager = company.member(tenant, "tenant_manager", department_id=department)
    asked = {"to_user_id": company.member(tenant), "recognition_message": "x"}
    given = company.call("award_to_user", user_id=manager, amount=40, **asked)
    assert given["funded_by"] == "budget"
    session.execute("update departments set budget_balance = budget_balance - 10, monthly_cap = 99")
    assert company.budget(tenant, department) == "50"
    assert came_from(company, "tenant.legacy") == [10000, -1000]
    with refused("insufficient_pool", 400):
        company.call("award_to_user", user_id=manager, amount=51, **asked)
    assert adjustments(company) == [
        (who, "departments", "moved here", "0", "100"),
        (who, "departments", "moved here", "60", "50"),
    ]


@pytest.mark.parametrize("who", ["postgres", "tallybook_operator"])
def test_a_lead_is_put_right(company: Company, who: str) -> None:
    tenant = company.tenant(100)
    lead, other = company.member(tenant, "manager"), company.member(tenant, "manager")
    company.lend(tenant, lead, 60)
    session = company.world.session(who)
    for balance in ("5.5", "5.5", "0", "7"):
        session.execute(
            "update tenant_members set lead_distribution_balance = %s, display_name = 'Leo'"
            " where user_id = %s",
            (balance, lead),
        )
        assert company.lead_budget(tenant, lead) == balance
    assert (company.pool(tenant), company.lead_budget(tenant, other)) == ("40", "0")
    assert came_from(company, "tenant.adjusted") == [-5450, -550, 700]
    assert [row[3:] for row in adjustments(company)] == [("60", "5.5"), ("5.5", "0"), ("0", "7")]


def test_who_comes_with_a_budget_has_it(company: Company) -> None:
    tenant = company.tenant()
    lead = company.member(tenant, "dept_lead", lead_distribution_balance="12.5")
    assert company.lead_budget(tenant, lead) == "12.5"


def test_below_zero_is_refused(company: Company) -> None:
    tenant = company.tenant()
    department = company.department(tenant, budget_balance=3)
    with pytest.raises(psycopg.errors.CheckViolation):
        company.world.operator.execute("update departments set budget_balance = -1")
    with pytest.raises(psycopg.errors.CheckViolation):
        company.member(tenant, user_id=uuid4(), lead_distribution_balance=-1)
    assert company.budget(tenant, department) == "3"


def test_by_hand_while_points_move(company: Company) -> None:
    """Who is in the other's way may be told to try again, but nothing is lost or made."""
    tenant = company.tenant(100)
    manager, lead = company.member(tenant, "tenant_manager"), company.member(tenant, "manager")
    by_hand = "update tenant_members set lead_distribution_balance = 50 where user_id = %s"
    asked = {"user_id": manager, "lead_user_id": lead, "amount": 5}
    company.world.at_once(
        [
            *([lambda session: company.call("delegate_to_lead", session, **asked)] * 2),
            *([lambda session: session.execute(by_hand, (lead,)).rowcount] * 2),
        ],
        "postgres",
    )
    held = int(company.pool(tenant)) + int(company.lead_budget(tenant, lead))
    assert held * 100 == 10_000 + sum(came_from(company, "tenant.adjusted"))
    assert company.world.discrepancies() == []

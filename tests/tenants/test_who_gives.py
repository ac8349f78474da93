"""Whose points somebody gives who is in several places, or has two offices."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID

import pytest

from tests.tenants.company import Company
from tests.world import refused


def award(company: Company, giver: UUID, to: UUID, **more: Any) -> Any:
    asked = {"user_id": giver, "to_user_id": to, "amount": D(1), "recognition_message": "x"}
    return company.call("award_to_user", **asked, **more)


def test_the_only_active_tenant_of_several_is_meant(company: Company) -> None:
    open_one, closed = company.tenant(100), company.tenant(100, is_active=False)
    manager, member = company.member(open_one, "tenant_manager"), company.member(open_one)
    company.member(closed, "tenant_manager", user_id=manager)
    stats = company.call("tenant_allocation_stats", user_id=manager)
    assert stats["tenant_id"] == str(open_one)
    assert award(company, manager, member)["success"] is True
    asked = {"recipients": [member], "points": D(1), "message": "x"}
    assert company.call("give_recognition", user_id=manager, **asked)["funded_by"] == "pool"


def test_an_administrator_who_works_there_awards_as_one(company: Company, admin: UUID) -> None:
    """As they look at its statistics and revoke: who names the tenant does it as administrator."""
    tenant = company.tenant(100)
    company.member(tenant, "employee", user_id=admin)
    member = company.member(tenant)
    assert award(company, admin, member, tenant_id=tenant)["funded_by"] == "pool"


@pytest.mark.parametrize("named", [False, True])
def test_members_of_a_closed_tenant_are_refused(company: Company, named: bool) -> None:
    tenant = company.tenant(100)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    company.world.operator.execute("update tenants set is_active = false")
    with refused("forbidden", 403):
        award(company, manager, member, **({"tenant_id": tenant} if named else {}))


def test_an_administrator_gives_as_the_employee_that_they_are(
    company: Company, admin: UUID
) -> None:
    """Company points are given in the system's name; what is their own they give themselves."""
    tenant = company.tenant(100)
    company.member(tenant, "employee", user_id=admin)
    member = company.member(tenant)
    company.enrich(tenant, admin, 10)
    asked = {"recipients": [member], "points": D(4), "message": "x", "tenant_id": tenant}
    assert company.call("give_recognition", user_id=admin, **asked)["funded_by"] == "wallet"

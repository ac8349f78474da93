"""The guide's scenarios do what the guide says of them."""

from __future__ import annotations

from decimal import Decimal as D
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.tenants.company import Company

if TYPE_CHECKING:
    from tests.tenants.seed import scenarios
    from tests.tenants.seed.models import Session, Tenant
else:
    # Found by this name because the tests' conftest says where.
    import scenarios


async def test_allocating_to_many_tenants_tells_of_each(
    company: Company, db: Session, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "db", db)
    monkeypatch.setattr(scenarios, "current_admin", admin)
    first, last = company.tenant(), company.tenant()
    results = await scenarios.bulk_allocate_to_tenants([first, uuid4(), last], D("750"))
    assert [result.get("new_allocation_balance") for result in results] == ["750", None, "750"]
    assert results[1] == {"error": "Tenant not found"}
    assert [company.pool(tenant) for tenant in (first, last)] == ["750", "750"]
    notes = company.world.rows("select reference_note, allocated_by from allocation_logs")
    assert (
        notes == [{"reference_note": "Bulk allocation for 3 tenants", "allocated_by": admin.id}] * 2
    )


async def test_whether_a_tenant_can_give_that_much(db: Session, tenant: Tenant) -> None:
    asked = {
        amount: await scenarios.can_give_recognition(tenant.id, amount, db)
        for amount in (D(1), D("250.50"), D("250.51"))
    }
    assert asked == {D(1): True, D("250.50"): True, D("250.51"): False}
    assert not await scenarios.can_give_recognition(uuid4(), D(1), db)


async def test_a_bonus_comes_from_the_system(
    company: Company, db: Session, tenant: Tenant, user_b: Any
) -> None:
    done = await scenarios.award_bonus_points(tenant.id, user_b.id, D("100.50"), "Thanks", db)
    assert done["success"] is True
    assert done["result"]["recipient_new_wallet_balance"] == "100.5"
    assert done["result"]["tenant_remaining_pool"] == "150"
    assert company.wallet(tenant.id, user_b.id) == "100.5"
    failed = await scenarios.award_bonus_points(tenant.id, user_b.id, D("200"), "Thanks", db)
    assert failed == {
        "success": False,
        "error": "Insufficient allocation pool. Available: 150, Required: 200",
    }
    assert company.wallet(tenant.id, user_b.id) == "100.5"

"""A tenant that is not active has no members, and the platform alone looks at it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import refused


def close(company: Company, tenant: UUID, *, is_active: bool = False) -> None:
    company.world.operator.execute(
        "update tenants set is_active = %s where id = %s", (is_active, tenant)
    )


ASKED_BY_MEMBERS: dict[str, dict[str, Any]] = {
    "wallet": {},
    "rewards_catalogue": {},
    "redeem_reward": {"reward_id": uuid4()},
    "tenant_allocation_stats": {},
    "list_recognitions": {},
}
ASKED_BY_MANAGERS: dict[str, dict[str, Any]] = {
    **ASKED_BY_MEMBERS,
    "delegate_to_lead": {"lead_user_id": uuid4(), "amount": 1},
    "recall_from_lead": {"lead_user_id": uuid4()},
    "revoke_recognition": {"recognition_id": uuid4(), "reason": "x"},
    "allocation_logs_page": {},
    "platform_billing_logs_page": {},
    "wallet_ledger_page": {},
    "points_ledger_stats": {},
    "set_department": {"name": "Sales"},
    "set_reward": {"name": "Mug", "points_cost": 1},
    "set_member": {"account": str(uuid4()), "role": "employee"},
    "refund_reward_redemption": {"redemption_id": uuid4(), "reason": "x"},
}
ASKED = [
    *(("employee", procedure) for procedure in ASKED_BY_MEMBERS),
    *(("tenant_manager", procedure) for procedure in ASKED_BY_MANAGERS),
    # Revoking is no hr_admin's at any time.
    *(("hr_admin", name) for name in ASKED_BY_MANAGERS if name != "revoke_recognition"),
]


@pytest.mark.parametrize(("role", "procedure"), ASKED)
def test_its_members_are_refused(company: Company, role: str, procedure: str) -> None:
    tenant = company.tenant(100)
    user = company.member(tenant, role)
    close(company, tenant)
    either: tuple[dict[str, Any], ...] = ({}, {"tenant_id": tenant})
    for named in either:
        with refused("forbidden", 403):
            company.call(procedure, user_id=user, **ASKED_BY_MANAGERS[procedure], **named)
    assert company.pool(tenant) == "100"


def test_its_members_are_back_when_it_is(company: Company) -> None:
    shop = Shop.open(company)
    member, reward = shop.member(5), shop.reward(2)
    close(company, shop.tenant)
    with refused("forbidden", 403):
        shop.redeem(member, reward)
    with refused("forbidden", 403):
        shop.reward(3)
    close(company, shop.tenant, is_active=True)
    assert shop.redeem(member, reward)["new_wallet_balance"] == "3"


def test_the_only_active_tenant_of_several_is_meant(company: Company) -> None:
    one, other = company.tenant(1), company.tenant(2)
    user = company.member(one, "tenant_manager")
    company.member(other, "tenant_manager", user_id=user)
    for procedure in ("tenant_allocation_stats", "set_department"):
        with refused("invalid_body", 400, "tenant_id"):
            company.call(procedure, user_id=user, **ASKED_BY_MANAGERS[procedure])
    close(company, one)
    assert company.call("tenant_allocation_stats", user_id=user)["tenant_id"] == str(other)
    company.call("set_department", user_id=user, name="Sales")
    assert company.world.value("select tenant_id from departments") == other


def test_the_platform_still_sees_to_it(company: Company, admin: UUID) -> None:
    tenant = company.tenant(100)
    close(company, tenant)
    for user in (admin, None):
        stats = company.call("tenant_allocation_stats", user_id=user, tenant_id=tenant)
        assert stats["points_allocation_balance"] == "100"
        company.call("set_department", user_id=user, tenant_id=tenant, name=f"Of {user}")
        logs = company.call("allocation_logs_page", user_id=user, tenant_id=tenant)
        assert logs["items"] == []

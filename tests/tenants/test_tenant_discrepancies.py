"""Whatever of tenants is written by hand, past every guard, is reported."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop

DAMAGE = [
    "update wallets set balance = balance + 1",
    "update wallets set lifetime_earned = lifetime_earned + 1",
    "update wallets set lifetime_spent = lifetime_spent + 1",
    "delete from wallets",
    "delete from wallet_ledger",
    "update wallet_ledger set points = points + 1",
    "update tenants set points_allocation_balance = 1",
    "update tenant_members set lead_distribution_balance = 4 where role = 'dept_lead'",
    "delete from tenant_members where role = 'dept_lead'",
    "update departments set budget_balance = 4",
    "update allocation_logs set reversed_amount = 3",
    "update allocation_logs set expired_amount = 3",
    "update allocation_logs set amount = amount + 1",
    "delete from allocation_logs",
    "update platform_billing_logs set amount = amount * 2",
    "delete from platform_billing_logs",
    "update lead_delegations set amount = amount + 1",
    "delete from lead_delegations",
    "update recognitions set points = points + 1",
    "update recognitions set status = 'revoked'",
    "update recognitions set funded_by = 'wallet'",
    "delete from recognitions",
    "update recognitions set to_user_id = from_user_id where to_user_id is not null",
    "update recognitions set to_user_id = null",
    "update recognition_groups set points = points + 1",
    "update recognition_groups set user_id = gen_random_uuid()",
    "update reward_redemptions set points = 1",
    "update reward_redemptions set status = 'refunded'",
    "delete from reward_redemptions",
]


@pytest.fixture
def busy(company: Company) -> Company:
    """A tenant in which everything has happened once."""
    shop = Shop.open(company)
    tenant = shop.tenant
    company.endow(tenant, company.department(tenant), 5)
    log = company.allocate(tenant, 100)["allocation_log_id"]
    lead, member = shop.member(role="dept_lead"), shop.member(5)
    company.delegate(shop.manager, lead, 10)
    company.call(
        "reverse_allocation",
        user_id=None,
        tenant_id=tenant,
        allocation_id=log,
        amount=1,
        reason="x",
    )
    company.call(
        "award_to_user", user_id=lead, to_user_id=member, amount=D(1), recognition_message="x"
    )
    company.call(
        "give_recognition",
        user_id=shop.manager,
        recipients=[member, lead],
        points=D(1),
        message="x",
    )
    shop.redeem(member, shop.reward(2))
    assert company.world.discrepancies() == []
    return company


def test_damage_is_reported(busy: Company) -> None:
    silent = []
    for damage in DAMAGE:
        session = busy.world.session(autocommit=False)
        session.execute("set session_replication_role = replica")
        session.execute(damage)  # type: ignore[call-overload]
        if not busy.world.discrepancies(session):
            silent.append(damage)
        session.rollback()
    assert silent == []

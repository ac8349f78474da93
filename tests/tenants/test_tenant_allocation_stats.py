"""What a tenant's people are shown of what they can give."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import refused


def test_a_fresh_allocation_reads_as_the_guide_prints_it(company: Company) -> None:
    tenant = company.tenant(50000)
    stats = company.call("tenant_allocation_stats", user_id=company.member(tenant))
    assert stats["tenant_id"] == str(tenant)
    assert (stats["tenant_name"], stats["points_allocation_balance"]) == ("Acme", "50000")
    assert (stats["currency"], stats["currency_label"]) == ("INR", "Points")
    assert (stats["role"], stats["wallet_balance"]) == ("employee", "0")
    company.move(tenant, "tenant.pool", "tenant.platform", "1000.5")
    stats = company.call("tenant_allocation_stats", user_id=company.member(tenant))
    assert stats["points_allocation_balance"] == "48999.5"


@pytest.mark.parametrize(
    ("points", "status", "words"),
    [
        (0, "empty", ("No points", "contact Platform Admin")),
        ("0.01", "low", ("low", "0.01")),
        ("99.99", "low", ("low", "99.99")),
        (100, "ready", ("Ready", "100")),
        (50000, "ready", ("Ready", "50000")),
    ],
)
def test_the_message_tells_how_it_stands(
    company: Company, points: int | str, status: str, words: tuple[str, ...]
) -> None:
    stats = company.call("tenant_allocation_stats", user_id=company.member(company.tenant(points)))
    assert stats["status"] == status
    assert all(word in stats["message"] for word in words)


def test_what_is_low_is_the_tenants_to_say(company: Company) -> None:
    tenant = company.tenant(500, low_balance_threshold=501)
    stats = company.call("tenant_allocation_stats", user_id=company.member(tenant))
    assert (stats["status"], stats["low_balance_threshold"]) == ("low", "501")


def test_a_lead_sees_their_own_budget_and_wallet(company: Company) -> None:
    tenant = company.tenant(1000)
    lead, other = company.member(tenant, "tenant_lead"), company.member(tenant, "tenant_lead")
    company.lend(tenant, lead, 300)
    company.lend(tenant, other, 50)
    company.enrich(tenant, lead, "7.5")
    stats = company.call("tenant_allocation_stats", user_id=lead)
    assert (stats["lead_distribution_balance"], stats["wallet_balance"]) == ("300", "7.5")
    assert stats["points_allocation_balance"] == "650"


def test_members_see_their_own_tenant_and_no_other(company: Company) -> None:
    mine, theirs = company.tenant(1), company.tenant(2)
    me = company.member(mine, "tenant_manager")
    assert company.call("tenant_allocation_stats", user_id=me)["tenant_id"] == str(mine)
    with refused("forbidden", 403):
        company.call("tenant_allocation_stats", user_id=me, tenant_id=theirs)
    with refused("forbidden", 403):
        company.call("tenant_allocation_stats", user_id=me, tenant_id=uuid4())
    with refused("forbidden", 403):
        company.call("tenant_allocation_stats", user_id=uuid4())
    gone = company.member(mine, is_active=False)
    with refused("forbidden", 403):
        company.call("tenant_allocation_stats", user_id=gone)


def test_who_belongs_to_several_names_one(company: Company) -> None:
    first, second = company.tenant(1), company.tenant(2)
    me = company.member(first)
    company.member(second, user_id=me)
    with refused("invalid_body", 400, "tenant_id: "):
        company.call("tenant_allocation_stats", user_id=me)
    stats = company.call("tenant_allocation_stats", user_id=me, tenant_id=second)
    assert stats["points_allocation_balance"] == "2"


def test_administrators_and_programs_name_the_tenant(company: Company, admin: UUID) -> None:
    tenant = company.tenant(12)
    for who in (admin, None):
        stats = company.call("tenant_allocation_stats", user_id=who, tenant_id=tenant)
        assert stats["points_allocation_balance"] == "12"
        assert (stats["role"], stats["wallet_balance"]) == (None, None)
        with refused("tenant_not_found", 404):
            company.call("tenant_allocation_stats", user_id=who, tenant_id=uuid4())
    with refused("invalid_body", 400, "tenant_id: "):
        company.call("tenant_allocation_stats", user_id=None)
    company.world.operator.execute("update system_admins set is_active = false")
    with refused("forbidden", 403):
        company.call("tenant_allocation_stats", user_id=admin, tenant_id=tenant)

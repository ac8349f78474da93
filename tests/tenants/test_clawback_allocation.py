"""The platform takes points back: from the pool, whole or in part, and from nowhere else."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import code_of, refused


def claw(company: Company, tenant: UUID, through: Any = None, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = company.call(
        "clawback_allocation",
        through,
        **{"user_id": None, "tenant_id": tenant, "reason": "Too much", **more},
    )
    return answer


def test_the_pool_goes_back_and_nothing_else(company: Company, admin: UUID) -> None:
    tenant = company.tenant(100)
    lead, user = company.member(tenant, "tenant_lead"), company.member(tenant)
    company.lend(tenant, lead, 10)
    company.enrich(tenant, user, 7)
    some = claw(company, tenant, amount=D("0.5"), user_id=admin, request_id="r-1")
    assert (some.pop("platform_log_id"), some) == (
        company.world.value("select id::text from platform_billing_logs"),
        {
            "success": True,
            "tenant_id": str(tenant),
            "amount_clawed_back": "0.5",
            "new_balance": "89.5",
            "reason": "Too much",
        },
    )
    assert claw(company, tenant)["amount_clawed_back"] == "89.5"
    assert company.pool(tenant) == "0"
    assert (company.lead_budget(tenant, lead), company.wallet(tenant, user)) == ("10", "7")
    assert company.billing(tenant) == [("CLAWBACK", "-0.5"), ("CLAWBACK", "-89.5")]
    actions = company.world.rows("select actor from audit_log where action = 'tenant.clawback'")
    assert f"{admin}@example.org" in {row["actor"] for row in actions}


def test_under_one_key_it_is_done_once(company: Company) -> None:
    tenant = company.tenant(100)
    first = claw(company, tenant, idempotency_key="k")
    company.fund(tenant, 5)
    assert claw(company, tenant, idempotency_key="k") == {**first, "replayed": True}
    with refused("nonce_reused", 409, "idempotency_key: "):
        claw(company, tenant, idempotency_key="k", amount=D(100))
    with refused("nonce_reused", 409):
        claw(company, tenant, idempotency_key="k", reason="Another")
    assert company.pool(tenant) == "5"


@pytest.mark.parametrize(
    ("fault", "code", "status", "detail"),
    [
        (
            {"amount": D("10.01")}, "insufficient_pool", 400,
            "Insufficient company allocation pool. Available: 10, Required: 10.01",
        ),
        ({"amount": D(0)}, "invalid_amount", 400, "amount: "),
        ({"amount": D("0.001")}, "invalid_amount", 400, "amount: "),
        ({"reason": " "}, "reason_required", 400, "reason: "),
        ({"reason": None}, "reason_required", 400, "reason: "),
        ({"tenant_id": uuid4()}, "tenant_not_found", 404, "Tenant not found"),
        ({"tenant_id": None}, "tenant_not_found", 404, "Tenant not found"),
        ({"idempotency_key": ""}, "invalid_body", 400, "idempotency_key: "),
        ({"user_id": uuid4()}, "forbidden", 403, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    company: Company, fault: dict[str, Any], code: str, status: int, detail: str
) -> None:
    tenant = company.tenant(10)
    with refused(code, status, detail):
        claw(company, tenant, **fault)
    assert company.pool(tenant) == "10"


def test_of_nothing_nothing_is_taken(company: Company) -> None:
    with refused("insufficient_pool", 400):
        claw(company, company.tenant())


def test_at_once_no_more_is_taken_than_there_is(company: Company) -> None:
    tenant = company.tenant(10)
    answers = company.world.at_once(
        [lambda session: claw(company, tenant, session, amount=D(4))] * 5
    )
    codes = sorted(code_of(answer) for answer in answers if not isinstance(answer, dict))
    assert codes == ["insufficient_pool"] * 3
    assert company.pool(tenant) == "2"

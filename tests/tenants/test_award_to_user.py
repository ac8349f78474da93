"""Awards to one member: it does, it replays, it refuses, it races."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import Connection, code_of, refused


def award(company: Company, giver: UUID | None, member: UUID | None, **request: Any) -> Any:
    """Award this member, by default 100 points."""
    request = {"amount": 100, "recognition_message": "Great work!", **request}
    return company.call("award_to_user", user_id=giver, to_user_id=member, **request)


@pytest.mark.parametrize(
    "role", ["tenant_manager", "hr_admin", "tenant_lead", "dept_lead", "manager"]
)
def test_an_award_is_a_recognition_of_one(company: Company, role: str) -> None:
    tenant = company.tenant(1000)
    giver, member = company.member(tenant, role), company.member(tenant)
    answer = award(company, giver, member, amount=D("100.50"))
    (entry,) = company.world.rows("select * from wallet_ledger where user_id = %s", (member,))
    (given,) = company.world.rows("select * from recognitions")
    assert answer == {
        "success": True,
        "amount_awarded": "100.5",
        "recipient_new_wallet_balance": "100.5",
        "tenant_remaining_pool": "899.5",
        "ledger_entry_id": str(entry["id"]),
        "recognition_id": str(given["id"]),
        "funded_by": "pool",
    }
    assert (given["from_user_id"], given["recognition_type"]) == (giver, "individual_award")
    assert (company.pool(tenant), company.wallet(tenant, member)) == ("899.5", "100.5")


def test_the_system_awards_from_the_pool(company: Company) -> None:
    tenant = company.tenant(250, allocation_mode="legacy_fallback")
    member, admin = company.member(tenant), company.admin()
    award(company, None, member, tenant_id=tenant)
    award(company, admin, member, tenant_id=tenant)
    rows = company.world.rows("select from_user_id, department_id from recognitions")
    assert [tuple(row.values()) for row in rows] == [(None, None)] * 2
    said = "Insufficient company allocation pool. Available: 50, Required: 100"
    with refused("insufficient_pool", 400, said):
        award(company, None, member, tenant_id=tenant)
    with refused("tenant_not_found", 404):
        award(company, None, member, tenant_id=uuid4())
    with refused("invalid_body", 400, "tenant_id: "):
        award(company, None, member)
    with refused("invalid_body", 400, "tenant_id: "):
        award(company, admin, member)


def test_an_administrator_recognizes_nobody_in_their_own_name(company: Company) -> None:
    tenant = company.tenant(250)
    with refused("forbidden", 403):
        company.call(
            "give_recognition",
            user_id=company.admin(),
            recipients=[company.member(tenant)],
            message="Hello",
            tenant_id=tenant,
        )


def test_a_repeated_key_is_answered_as_the_first_time(company: Company) -> None:
    tenant = company.tenant(1000)
    member = company.member(tenant)
    for giver in (company.member(tenant, "manager"), None):
        request = {"tenant_id": tenant, "idempotency_key": "k"}
        first = award(company, giver, member, **request)
        award(company, giver, member, tenant_id=tenant)
        assert award(company, giver, member, **request) == {**first, "replayed": True}
        with refused("nonce_reused", 409, "idempotency_key: "):
            award(company, giver, member, amount=101, **request)
    assert company.pool(tenant) == "600"


@pytest.mark.parametrize(
    ("request_", "code", "detail"),
    [
        ({"amount": 0}, "invalid_amount", "amount: "),
        ({"amount": -1}, "invalid_amount", "amount: "),
        ({"amount": D("0.001")}, "invalid_amount", "amount: "),
        ({"amount": D("NaN")}, "invalid_amount", "amount: "),
        ({"amount": None}, "invalid_amount", "amount: "),
        ({"recognition_message": " "}, "invalid_body", "recognition_message: "),
        ({"to_user_id": None}, "invalid_body", "to_user_id: "),
    ],
)
def test_what_makes_no_sense_is_refused(
    company: Company, request_: dict[str, Any], code: str, detail: str
) -> None:
    tenant = company.tenant(1000)
    giver, member = company.member(tenant, "manager"), company.member(tenant)
    member = request_.pop("to_user_id", member)
    with refused(code, 400, detail):
        award(company, giver, member, **request_)


def test_who_may_not_award_is_refused(company: Company) -> None:
    tenant, elsewhere = company.tenant(1000), company.tenant(1000, name="Other")
    member = company.member(tenant)
    for nobody in (company.member(tenant), company.member(elsewhere, "tenant_manager"), uuid4()):
        with refused("forbidden", 403):
            award(company, nobody, member, tenant_id=tenant)
    manager = company.member(tenant, "manager")
    with refused("self_recognition", 400):
        award(company, manager, manager)
    with refused("recipient_not_found", 404):
        award(company, manager, company.member(elsewhere))
    assert (company.pool(tenant), company.pool(elsewhere)) == ("1000", "1000")


def test_awards_at_once_never_overdraw_a_leads_budget_or_the_pool(company: Company) -> None:
    tenant = company.tenant(100)
    lead, member = company.member(tenant, "tenant_lead"), company.member(tenant)
    company.lend(tenant, lead, 50)

    def call(session: Connection) -> Any:
        request = {"to_user_id": member, "amount": 10, "recognition_message": "At once"}
        return company.call("award_to_user", session, user_id=lead, **request)

    results = company.world.at_once([call] * 16)
    funded = [result["funded_by"] for result in results if isinstance(result, dict)]
    assert (funded.count("lead"), funded.count("pool")) == (5, 5)
    assert {code_of(r) for r in results if not isinstance(r, dict)} == {"insufficient_pool"}


def test_the_system_awards_once_under_one_key(company: Company) -> None:
    tenant = company.tenant(100)
    member = company.member(tenant)

    def call(session: Connection) -> Any:
        request = {"to_user_id": member, "amount": 10, "recognition_message": "Once"}
        named = {"tenant_id": tenant, "idempotency_key": "k"}
        return company.call("award_to_user", session, user_id=None, **request, **named)

    results = company.world.at_once([call] * 8)
    assert sum("replayed" not in result for result in results) == 1  # type: ignore[operator]
    assert company.pool(tenant) == "90"


def test_the_systems_key_is_one_whoever_brings_it(company: Company) -> None:
    """Also where the requests of two administrators are gathered."""
    tenant = company.tenant(100)
    member = company.member(tenant)
    asked: dict[str, Any] = {
        "to_user_id": member,
        "recognition_message": "Well done",
        "tenant_id": tenant,
        "idempotency_key": "k",
    }
    first, again, other = company.world.batch(
        "internal.award_to_user_batch",
        [{"user_id": company.admin(), "amount": amount, **asked} for amount in (10, 10, 20)],
        None,
    )
    assert first.answer and again.answer == {**first.answer, "replayed": True}
    assert other.refusal and other.refusal["code"] == "nonce_reused"
    assert (company.pool(tenant), company.wallet(tenant, member)) == ("90", "10")

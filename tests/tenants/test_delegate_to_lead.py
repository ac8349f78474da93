"""A manager gives a lead points of the pool to award, and takes them back."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import Connection, code_of, refused


@pytest.fixture
def tenant(company: Company) -> UUID:
    return company.tenant(100)


@pytest.fixture
def manager(company: Company, tenant: UUID) -> UUID:
    return company.member(tenant, "tenant_manager")


@pytest.fixture
def lead(company: Company, tenant: UUID) -> UUID:
    return company.member(tenant, "tenant_lead")


def recall(
    company: Company, manager: UUID, lead: UUID, through: Connection | None = None, **more: Any
) -> dict[str, Any]:
    asked = {"user_id": manager, "lead_user_id": lead, **more}
    answer: dict[str, Any] = company.call("recall_from_lead", through, **asked)
    return answer


@pytest.mark.parametrize("role", ["tenant_manager", "hr_admin"])
@pytest.mark.parametrize("rank", ["tenant_lead", "dept_lead", "manager"])
def test_a_lead_can_award_what_was_delegated(
    company: Company, tenant: UUID, role: str, rank: str
) -> None:
    manager, lead = company.member(tenant, role), company.member(tenant, rank)
    answer = company.delegate(manager, lead, "30.25", reference_note="May", request_id="r-1")
    (row,) = company.world.rows("select * from lead_delegations")
    assert (row["amount"], row["delegated_by"], row["lead_user_id"], row["request_id"]) == (
        D("30.25"), manager, lead, "r-1",
    )  # fmt: skip
    assert answer == {
        "success": True,
        "tenant_id": str(tenant),
        "lead_user_id": str(lead),
        "amount": "30.25",
        "lead_new_balance": "30.25",
        "tenant_remaining_balance": "69.75",
        "reference_note": "May",
        "delegation_id": str(row["id"]),
    }
    assert (company.pool(tenant), company.lead_budget(tenant, lead)) == ("69.75", "30.25")


def test_what_a_lead_has_is_taken_back(
    company: Company, tenant: UUID, manager: UUID, lead: UUID
) -> None:
    company.delegate(manager, lead, 30)
    some = recall(company, manager, lead, amount=D("0.5"), reference_note="Less")
    assert (some["amount"], some["lead_new_balance"], some["tenant_remaining_balance"]) == (
        "0.5", "29.5", "70.5",
    )  # fmt: skip
    with refused("insufficient_budget", 400, "amount: the lead has 29.5"):
        recall(company, manager, lead, amount=D(30))
    # Who is a lead no more gives all of it back.
    company.world.operator.execute(
        "update tenant_members set is_active = false, role = 'employee' where user_id = %s", (lead,)
    )
    assert recall(company, manager, lead)["amount"] == "29.5"
    with refused("insufficient_budget", 400):
        recall(company, manager, lead)
    assert (company.pool(tenant), company.lead_budget(tenant, lead)) == ("100", "0")
    amounts = company.world.rows("select amount from lead_delegations order by created_at, id")
    assert [row["amount"] for row in amounts] == [D(30), D("-0.5"), D("-29.5")]


def test_under_one_key_it_is_done_once(company: Company, manager: UUID, lead: UUID) -> None:
    first = company.delegate(manager, lead, 10, idempotency_key="k")
    company.delegate(manager, lead, 1)
    again = company.delegate(manager, lead, "10.0", idempotency_key="k")
    assert again == {**first, "replayed": True}
    back = recall(company, manager, lead, idempotency_key="back")
    assert recall(company, manager, lead, idempotency_key="back") == {**back, "replayed": True}
    with refused("nonce_reused", 409, "idempotency_key: "):
        company.delegate(manager, lead, 11, idempotency_key="k")
    with refused("nonce_reused", 409):
        recall(company, manager, lead, amount=D(10), idempotency_key="k")


@pytest.mark.parametrize("role", ["employee", "tenant_lead", "dept_lead", "manager"])
def test_only_managers_delegate(company: Company, tenant: UUID, lead: UUID, role: str) -> None:
    who = company.member(tenant, role)
    with refused("forbidden", 403):
        company.delegate(who, lead, 1)
    with refused("forbidden", 403):
        recall(company, who, lead)


def test_another_company_s_manager_does_not(company: Company, tenant: UUID, lead: UUID) -> None:
    stranger = company.member(company.tenant(50), "tenant_manager")
    with refused("recipient_not_found", 404, "lead_user_id: "):
        company.delegate(stranger, lead, 1)
    with refused("forbidden", 403):
        company.delegate(stranger, lead, 1, tenant_id=tenant)
    with refused("forbidden", 403):
        company.delegate(uuid4(), lead, 1)


@pytest.mark.parametrize(
    ("fault", "code", "status", "detail"),
    [
        (
            {"amount": D("100.01")}, "insufficient_pool", 400,
            "Insufficient company allocation pool. Available: 100, Required: 100.01",
        ),
        ({"amount": D(0)}, "invalid_amount", 400, "amount: "),
        ({"amount": None}, "invalid_amount", 400, "amount: "),
        ({"amount": D("0.005")}, "invalid_amount", 400, "amount: "),
        ({"lead_user_id": uuid4()}, "recipient_not_found", 404, "lead_user_id: "),
        ({"lead_user_id": None}, "recipient_not_found", 404, "lead_user_id: "),
        ({"idempotency_key": ""}, "invalid_body", 400, "idempotency_key: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    company: Company,
    tenant: UUID,
    manager: UUID,
    lead: UUID,
    fault: dict[str, Any],
    code: str,
    status: int,
    detail: str,
) -> None:
    asked = {"user_id": manager, "lead_user_id": lead, "amount": D(1), **fault}
    with refused(code, status, detail):
        company.call("delegate_to_lead", **asked)
    assert company.pool(tenant) == "100"


@pytest.mark.parametrize("who", [{"role": "employee"}, {"role": "hr_admin"}, {"is_active": False}])
def test_only_leads_are_given_a_budget(
    company: Company, tenant: UUID, manager: UUID, who: dict[str, Any]
) -> None:
    with refused("recipient_not_found", 404):
        company.delegate(manager, company.member(tenant, **{"role": "tenant_lead", **who}), 1)


def test_at_once_no_more_goes_than_there_is(
    company: Company, tenant: UUID, manager: UUID, lead: UUID
) -> None:
    other = company.member(tenant, "dept_lead")
    company.delegate(manager, lead, 20)

    def give(session: Connection) -> Any:
        asked = {"user_id": manager, "lead_user_id": other, "amount": D(30)}
        return company.call("delegate_to_lead", session, **asked)

    def take(session: Connection) -> Any:
        return recall(company, manager, lead, session, amount=D(15))

    answers = company.world.at_once([give, take, give, take, give, give])
    codes = sorted(code_of(answer) for answer in answers if not isinstance(answer, dict))
    given = company.lead_budget(tenant, other)
    assert company.lead_budget(tenant, lead) == "5"
    # The fourth finds room only where the points that came back were there before it.
    assert (given, codes) in [
        ("90", ["insufficient_budget", "insufficient_pool"]),
        ("60", ["insufficient_budget", "insufficient_pool", "insufficient_pool"]),
    ]
    assert D(company.pool(tenant)) == 95 - D(given)


def test_a_delegation_is_written_for_good(company: Company, manager: UUID, lead: UUID) -> None:
    company.delegate(manager, lead, 1)
    for statement in ("update lead_delegations set amount = 2", "delete from lead_delegations"):
        with pytest.raises(Exception, match="append-only"):
            company.world.admin.execute(statement)  # type: ignore[call-overload]


def test_who_sees_a_delegation(company: Company, tenant: UUID, manager: UUID, lead: UUID) -> None:
    company.delegate(manager, lead, 1)
    stranger = company.member(company.tenant(), "tenant_manager")
    colleague = company.member(tenant, "tenant_lead")
    for who, seen in ((manager, 1), (lead, 1), (colleague, 0), (stranger, 0)):
        session = company.world.session(autocommit=False)
        session.execute("set local role authenticated")
        session.execute(f'set local request.jwt.claims = \'{{"sub": "{who}"}}\'')  # type: ignore[call-overload]
        assert len(session.execute("select from lead_delegations").fetchall()) == seen
        session.rollback()

"""One allocation is taken back, as far as the pool still holds it, and never below zero."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import code_of, refused


def reverse(
    company: Company, tenant: UUID, allocation: object, through: Any = None, **more: Any
) -> dict[str, Any]:
    answer: dict[str, Any] = company.call(
        "reverse_allocation",
        through,
        **{
            "user_id": None,
            "tenant_id": tenant,
            "allocation_id": allocation,
            "reason": "A mistake",
            **more,
        },
    )
    return answer


def log(company: Company, allocation: object) -> tuple[str, D]:
    (row,) = company.world.rows(
        "select status, reversed_amount from allocation_logs where id = %s", (allocation,)
    )
    return row["status"], row["reversed_amount"]


def test_an_allocation_goes_back_in_parts(company: Company, admin: UUID) -> None:
    tenant = company.tenant()
    first = company.allocate(tenant, 100)["allocation_log_id"]
    company.allocate(tenant, 50)
    some = reverse(company, tenant, first, amount=D("30.5"), user_id=admin)
    bill = some.pop("platform_log_id")
    assert some == {
        "success": True,
        "tenant_id": str(tenant),
        "allocation_log_id": first,
        "amount_reversed": "30.5",
        "reversed_in_all": "30.5",
        "status": "COMPLETED",
        "new_balance": "119.5",
        "reason": "A mistake",
    }
    (row,) = company.world.rows("select * from platform_billing_logs where id = %s", (bill,))
    assert (str(row["allocation_id"]), row["admin_id"], row["transaction_type"]) == (
        first, admin, "REVERSAL",
    )  # fmt: skip
    rest = reverse(company, tenant, first)
    assert (rest["amount_reversed"], rest["status"], rest["new_balance"]) == (
        "69.5", "REVOKED", "50",
    )  # fmt: skip
    assert log(company, first) == ("REVOKED", D(100))
    with refused("not_reversible", 409, "amount: 0 of 100 "):
        reverse(company, tenant, first)
    assert company.pool(tenant) == "50"


def test_what_was_given_away_stays_given(company: Company) -> None:
    tenant = company.tenant()
    allocation = company.allocate(tenant, 100)["allocation_log_id"]
    company.lend(tenant, company.member(tenant, "tenant_lead"), 70)
    with refused("not_reversible", 409, "amount: 30 of 100 "):
        reverse(company, tenant, allocation, amount=D("30.01"))
    assert reverse(company, tenant, allocation)["amount_reversed"] == "30"
    assert (company.pool(tenant), log(company, allocation)) == ("0", ("COMPLETED", D(30)))


def test_a_part_is_answered_as_it_was_whatever_came_after_it(company: Company) -> None:
    tenant = company.tenant(expiry_policy="90_days")
    company.world.freeze()
    allocation = company.allocate(tenant, 100)["allocation_log_id"]
    part = reverse(company, tenant, allocation, amount=D(30), idempotency_key="k")
    company.world.pass_time(timedelta(days=90))
    company.call("expire_allocations", company.world.worker)
    assert log(company, allocation)[0] == "EXPIRED"
    again = reverse(company, tenant, allocation, amount=D(30), idempotency_key="k")
    assert again == {**part, "replayed": True}
    assert (part["reversed_in_all"], part["status"]) == ("30", "COMPLETED")

    other = company.allocate(tenant, 50)["allocation_log_id"]
    part = reverse(company, tenant, other, amount=D(20), idempotency_key="l")
    rest = reverse(company, tenant, other)
    assert (rest["reversed_in_all"], rest["status"]) == ("50", "REVOKED")
    again = reverse(company, tenant, other, amount=D(20), idempotency_key="l")
    assert again == {**part, "replayed": True}


def test_under_one_key_it_is_done_once(company: Company) -> None:
    tenant = company.tenant()
    allocation = company.allocate(tenant, 100, idempotency_key="given")["allocation_log_id"]
    first = reverse(company, tenant, allocation, amount=D(10), idempotency_key="k")
    again = reverse(company, tenant, allocation, amount=D(10), idempotency_key="k")
    assert again == {**first, "replayed": True}
    for key, amount in (("k", D(20)), ("given", D(10))):
        with refused("nonce_reused", 409, "idempotency_key: "):
            reverse(company, tenant, allocation, amount=amount, idempotency_key=key)
    assert company.pool(tenant) == "90"


def test_a_replay_says_what_was_so_then(company: Company) -> None:
    company.world.freeze()
    tenant = company.tenant(expiry_policy="90_days")
    allocation = company.allocate(tenant, 100)["allocation_log_id"]
    asked: list[dict[str, Any]] = [{"amount": D(10)}, {"amount": D(20)}, {}]
    answers = []
    for number, more in enumerate(asked):
        answers.append(reverse(company, tenant, allocation, idempotency_key=f"k{number}", **more))
        if number == 1:
            manager = company.member(tenant, "tenant_manager")
            lead = company.member(tenant, "manager")
            company.delegate(manager, lead, 30)
            company.world.pass_time(timedelta(days=90))
            company.call("expire_allocations", company.world.worker)
            company.call("recall_from_lead", user_id=manager, lead_user_id=lead)
    assert [(answer["reversed_in_all"], answer["status"]) for answer in answers] == [
        ("10", "COMPLETED"), ("30", "COMPLETED"), ("60", "REVOKED"),
    ]  # fmt: skip
    for number, more in enumerate(asked):
        again = reverse(company, tenant, allocation, idempotency_key=f"k{number}", **more)
        assert again == {**answers[number], "replayed": True}


def test_a_replay_says_that_it_had_expired(company: Company) -> None:
    company.world.freeze()
    tenant = company.tenant(expiry_policy="90_days")
    allocation = company.allocate(tenant, 100)["allocation_log_id"]
    manager, lead = company.member(tenant, "tenant_manager"), company.member(tenant, "manager")
    company.delegate(manager, lead, 30)
    company.world.pass_time(timedelta(days=90))
    company.call("expire_allocations", company.world.worker)
    company.call("recall_from_lead", user_id=manager, lead_user_id=lead)
    first = reverse(company, tenant, allocation, amount=D(10), idempotency_key="k")
    assert (first["reversed_in_all"], first["status"]) == ("10", "EXPIRED")
    assert reverse(company, tenant, allocation)["status"] == "REVOKED"
    again = reverse(company, tenant, allocation, amount=D(10), idempotency_key="k")
    assert again == {**first, "replayed": True}


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ({"allocation_id": uuid4()}, "allocation_not_found", 404),
        ({"tenant_id": uuid4()}, "tenant_not_found", 404),
        ({"amount": D(-1)}, "invalid_amount", 400),
        ({"reason": ""}, "reason_required", 400),
        ({"user_id": uuid4()}, "forbidden", 403),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(
    company: Company, fault: dict[str, Any], code: str, status: int
) -> None:
    tenant = company.tenant()
    allocation = company.allocate(tenant, 100)["allocation_log_id"]
    with refused(code, status):
        reverse(company, tenant, allocation, **fault)
    # Another tenant's is none of this one's.
    with refused("allocation_not_found", 404):
        reverse(company, company.tenant(), allocation)
    assert company.pool(tenant) == "100"


def test_at_once_it_goes_back_once(company: Company) -> None:
    tenant = company.tenant(1000)
    allocation = company.allocate(tenant, 100)["allocation_log_id"]
    answers = company.world.at_once(
        [lambda session: reverse(company, tenant, allocation, session, amount=D(40))] * 4
    )
    codes = [code_of(answer) for answer in answers if not isinstance(answer, dict)]
    assert codes == ["not_reversible"] * 2
    assert (company.pool(tenant), log(company, allocation)) == ("1020", ("COMPLETED", D(80)))

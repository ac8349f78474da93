"""The platform gives a tenant points: they are in the pool, in both logs, and in the ledger."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import code_of, refused

HOUR = 3600


def limited(detail: str = "allocations_per_hour: ") -> Any:
    return refused("rate_limited", 429, detail)


def test_an_allocation_is_in_the_pool_and_in_both_logs(company: Company, admin: UUID) -> None:
    tenant = company.tenant()
    answer = company.allocate(
        tenant, 50000, user_id=admin, reference_note="Start", request_id="r-1", currency="INR"
    )
    assert company.allocate(tenant, "0.5")["new_allocation_balance"] == "50000.5"
    log, bill = answer.pop("allocation_log_id"), answer.pop("platform_log_id")
    assert answer == {
        "success": True,
        "tenant_id": str(tenant),
        "amount_allocated": "50000",
        "new_allocation_balance": "50000",
        "currency": "INR",
    }
    assert company.pool(tenant) == "50000.5"
    (row,) = company.world.rows("select * from allocation_logs where id = %s", (log,))
    assert (row["allocated_by"], row["amount"], row["status"]) == (admin, D(50000), "COMPLETED")
    assert (row["reference_note"], row["request_id"], row["expires_at"]) == ("Start", "r-1", None)
    (row,) = company.world.rows("select * from platform_billing_logs where id = %s", (bill,))
    assert (row["admin_id"], row["amount"], row["transaction_type"]) == (
        admin, D(50000), "CREDIT_INJECTION",
    )  # fmt: skip
    assert (str(row["allocation_id"]), row["balance_after"]) == (log, D(50000))
    assert company.world.value(
        "select points_allocation_balance = budget_allocation_balance from tenants"
    )
    (audited,) = company.world.rows(
        "select actor, after from audit_log where action = 'tenant.credit_injection'"
        " and request_id = 'r-1'"
    )
    assert audited["actor"] == f"{admin}@example.org"
    assert audited["after"]["balance"] == "50000"


def test_under_one_key_it_is_done_once(company: Company, admin: UUID) -> None:
    tenant, other = company.tenant(), company.tenant()
    asked = {"user_id": admin, "idempotency_key": "k", "reference_note": "x"}
    first = company.allocate(tenant, "10", **asked)
    company.allocate(tenant, 5)
    assert company.allocate(tenant, "10.00", **asked) == {**first, "replayed": True}
    assert company.allocate(other, 10, **asked)["new_allocation_balance"] == "10"
    for changed in ({"amount": D(11)}, {"reference_note": "y"}, {"currency": "INR"}):
        with refused("nonce_reused", 409, "idempotency_key: "):
            company.allocate(tenant, **{"amount": 10, **asked, **changed})
    assert company.pool(tenant) == "15"


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ({"tenant_id": uuid4()}, "tenant_not_found", 404),
        ({"tenant_id": None}, "invalid_body", 400),
        ({"amount": D(0)}, "invalid_amount", 400),
        ({"amount": D(-1)}, "invalid_amount", 400),
        ({"amount": D("0.001")}, "invalid_amount", 400),
        ({"amount": D("10000000000000")}, "invalid_amount", 400),
        ({"amount": D("NaN")}, "invalid_amount", 400),
        ({"amount": None}, "invalid_amount", 400),
        ({"currency": "USD"}, "invalid_body", 400),
        ({"idempotency_key": ""}, "invalid_body", 400),
        ({"user_id": uuid4()}, "forbidden", 403),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(
    company: Company, fault: dict[str, Any], code: str, status: int
) -> None:
    tenant = company.tenant()
    with refused(code, status):
        company.call(
            "allocate_to_tenant",
            **{"user_id": None, "tenant_id": tenant, "amount": D(1), **fault},
        )
    assert company.pool(tenant) == "0"


def test_the_words_are_the_seeds(company: Company) -> None:
    with refused("tenant_not_found", 404, "Tenant not found"):
        company.allocate(uuid4(), 1)


def test_a_member_is_no_administrator(company: Company) -> None:
    tenant = company.tenant()
    with refused("forbidden", 403):
        company.allocate(tenant, 1, user_id=company.member(tenant, "tenant_manager"))


def test_who_is_gone_gets_nothing(company: Company) -> None:
    with refused("tenant_not_found", 404):
        company.allocate(company.tenant(is_active=False), 1)


def test_what_was_answered_is_answered_also_when_the_tenant_is_closed(company: Company) -> None:
    tenant = company.tenant()
    first = company.allocate(tenant, 5, idempotency_key="k")
    company.world.operator.execute("update tenants set is_active = false where id = %s", (tenant,))
    assert company.allocate(tenant, 5, idempotency_key="k") == {**first, "replayed": True}
    with refused("nonce_reused", 409):
        company.allocate(tenant, 6, idempotency_key="k")
    with refused("tenant_not_found", 404):
        company.allocate(tenant, 5, idempotency_key="l")
    assert company.pool(tenant) == "5"


def test_a_key_of_something_else_that_the_platform_did_is_refused(company: Company) -> None:
    tenant = company.tenant(20)
    asked = {"user_id": None, "tenant_id": tenant, "reason": "x", "idempotency_key": "k"}
    company.call("clawback_allocation", amount=D(5), **asked)
    with refused("nonce_reused", 409):
        company.allocate(tenant, 5, idempotency_key="k")
    assert company.pool(tenant) == "15"


def test_a_pool_holds_what_its_column_holds(company: Company) -> None:
    tenant = company.tenant()
    company.allocate(tenant, "9999999999999.98")
    with refused("invalid_amount", 400, "amount: "):
        company.allocate(tenant, "0.02")
    assert company.allocate(tenant, "0.01")["new_allocation_balance"] == "9999999999999.99"


def test_an_administrator_allocates_a_hundred_times_an_hour(company: Company, admin: UUID) -> None:
    world, tenant = company.world, company.tenant()
    world.freeze()
    asked: dict[str, Any] = {"user_id": admin, "idempotency_key": "first"}
    company.allocate(tenant, 1, **asked)
    world.pass_time(timedelta(minutes=10))
    for _ in range(99):
        company.allocate(tenant, 1, user_id=admin)
    with limited(f"allocations_per_hour: 100 in 3600 s; again in {HOUR - 600} s"):
        company.allocate(tenant, 1, user_id=admin)
    # What was done is answered all the same, and others are heard.
    assert company.allocate(tenant, 1, **asked)["replayed"] is True
    company.allocate(tenant, 1, user_id=company.admin())
    company.allocate(tenant, 1)
    world.pass_time(timedelta(seconds=HOUR - 600))
    company.allocate(tenant, 1, user_id=admin)
    with limited(f"allocations_per_hour: 100 in 3600 s; again in {600} s"):
        company.allocate(tenant, 1, user_id=admin)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:1:2::1", "2001:db8:1:2::ffff", "2001:db8:1:3::1"),
    ],
)
def test_an_address_allocates_as_often_and_no_more(
    company: Company, one: str, same: str, other: str
) -> None:
    tenant = company.tenant()
    company.world.operator.execute("update allocation_limits set allocations_per_hour_max = 3")
    for _ in range(3):
        company.allocate(tenant, 1, user_id=company.admin(), ip_address=one)
    with limited():
        company.allocate(tenant, 1, user_id=company.admin(), ip_address=same)
    company.allocate(tenant, 1, user_id=company.admin(), ip_address=other)
    company.world.operator.execute("update allocation_limits set allocations_per_hour_max = null")
    company.allocate(tenant, 1, user_id=company.admin(), ip_address=same)


def test_at_once_the_same_key_allocates_once(company: Company, admin: UUID) -> None:
    tenant = company.tenant()
    asked = {"user_id": admin, "tenant_id": tenant, "amount": D(5), "idempotency_key": "k"}
    answers = company.world.at_once(
        [lambda session: company.call("allocate_to_tenant", session, **asked)] * 6
    )
    assert [code_of(answer) for answer in answers if not isinstance(answer, dict)] == []
    assert sorted("replayed" in answer for answer in answers) == [False] + [True] * 5  # type: ignore[operator]
    assert company.pool(tenant) == "5"


def test_at_once_no_more_get_through_than_may(company: Company, admin: UUID) -> None:
    company.world.operator.execute("update allocation_limits set allocations_per_hour_max = 3")
    asked = {"user_id": admin, "amount": D(5)}
    # Each to another tenant, so that no pool makes one wait for the other.
    answers = company.world.at_once(
        [
            lambda session, to=to: company.call(
                "allocate_to_tenant", session, tenant_id=to, **asked
            )
            for to in [company.tenant() for _ in range(8)]
        ]
    )
    assert [code_of(answer) for answer in answers].count("rate_limited") == 5
    assert company.world.count("allocation_logs") == 3

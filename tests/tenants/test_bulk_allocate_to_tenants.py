"""Many tenants at once: each is allocated to or refused by itself, in one set."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.tenants.company import Company
from tests.world import refused


def bulk(company: Company, **asked: Any) -> dict[str, Any]:
    answer: dict[str, Any] = company.call("bulk_allocate_to_tenants", **{"user_id": None, **asked})
    return answer


def test_the_same_for_each(company: Company, admin: UUID) -> None:
    tenants = [company.tenant(), company.tenant(5), uuid4()]
    answer = bulk(company, user_id=admin, tenant_ids=tenants, amount=D("2.5"))
    assert (answer["success_count"], answer["failed_count"]) == (2, 1)
    first, second, third = answer["results"]
    assert [first["new_allocation_balance"], second["new_allocation_balance"]] == ["2.5", "7.5"]
    assert third == {
        "position": 3,
        "tenant_id": str(tenants[2]),
        "success": False,
        "code": "tenant_not_found",
        "detail": "Tenant not found",
    }
    notes = company.world.rows("select distinct reference_note from allocation_logs")
    assert [row["reference_note"] for row in notes] == ["Bulk allocation for 3 tenants"]


def test_each_its_own(company: Company) -> None:
    one, two = company.tenant(), company.tenant()
    lines: list[Any] = [
        {"tenant_id": str(one), "amount": 1, "reference_note": "First"},
        {"tenant_id": str(two), "amount": "2.25"},
        {"tenant_id": str(one), "amount": 3},
        {"tenant_id": str(one), "amount": 0},
        {"tenant_id": "one", "amount": 3},
        {"tenant_id": str(one), "amount": "much"},
        {"amount": 3},
        "nothing",
    ]
    answer = bulk(company, allocations=Jsonb(lines), reference_note="Spring")
    assert [line.get("code") for line in answer["results"]] == [
        None, None, None, "invalid_amount", "invalid_body", "invalid_amount", "invalid_body",
        "invalid_body",
    ]  # fmt: skip
    balances = [line.get("new_allocation_balance") for line in answer["results"]]
    assert balances[:3] == ["1", "2.25", "4"]
    assert [line["tenant_id"] for line in answer["results"]][4:7] == ["one", str(one), None]
    assert (company.pool(one), company.pool(two)) == ("4", "2.25")
    notes = company.world.rows("select reference_note from allocation_logs order by amount")
    assert [row["reference_note"] for row in notes] == ["First", "Spring", "Spring"]


def test_under_one_key_each_is_done_once(company: Company) -> None:
    one, two = company.tenant(), company.tenant()
    asked = {"amount": D(1), "idempotency_key": "k", "reference_note": "x"}
    first = bulk(company, tenant_ids=[one], **asked)["results"][0]
    again = bulk(company, tenant_ids=[one, two, two], **asked)["results"]
    assert again[0] == {**first, "replayed": True}
    assert ["replayed" in line for line in again] == [True, False, True]
    assert again[1]["allocation_log_id"] == again[2]["allocation_log_id"]
    changed = bulk(company, tenant_ids=[one], **{**asked, "amount": D(2)})["results"][0]
    assert changed["code"] == "nonce_reused"
    assert (company.pool(one), company.pool(two)) == ("1", "1")


def test_the_key_of_the_whole_is_each_one_s_that_has_none(company: Company) -> None:
    one, two = company.tenant(), company.tenant()
    # So comes what the address has read: what nobody said is null.
    nothing = {"reference_note": None, "currency": None, "idempotency_key": None}
    lines = [{**nothing, "tenant_id": str(tenant), "amount": 5} for tenant in (one, two, one)]
    lines[1]["idempotency_key"] = "its own"
    asked = {"allocations": Jsonb(lines), "idempotency_key": "k"}
    first, again = (bulk(company, **asked)["results"] for _ in range(2))
    assert again == [{**line, "replayed": True} for line in first]
    # Two to one tenant are two, each once.
    assert (company.pool(one), company.pool(two)) == ("10", "5")
    keys = company.world.rows("select idempotency_key from allocation_logs order by 1")
    assert [row["idempotency_key"] for row in keys] == ["its own", "k", "k#2"]
    for line in lines:
        line["amount"] = 6
    codes = [line["code"] for line in bulk(company, **asked)["results"]]
    assert codes == ["nonce_reused"] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"tenant_ids": []},
        {"tenant_ids": [uuid4()] * 1001, "amount": D(1)},
        {"tenant_ids": [uuid4()], "allocations": Jsonb([{}])},
        {"allocations": Jsonb({})},
        {"allocations": Jsonb([])},
    ],
    ids=["neither", "none", "too many", "both", "no array", "no allocation"],
)
def test_what_is_no_bulk_is_refused_whole(company: Company, wrong: dict[str, Any]) -> None:
    with refused("invalid_body", 400):
        bulk(company, **wrong)
    with refused("forbidden", 403):
        bulk(company, user_id=uuid4(), tenant_ids=[company.tenant()], amount=D(1))


def test_a_thousand_go_and_count_once(company: Company, admin: UUID) -> None:
    company.world.operator.execute("update allocation_limits set allocations_per_hour_max = 2")
    company.world.operator.execute(
        "insert into tenants (name) select 'T' || g from generate_series(1, 1000) as g"
    )
    tenants = [row["id"] for row in company.world.rows("select id from tenants")]
    for _ in range(2):
        answer = bulk(company, user_id=admin, tenant_ids=tenants, amount=D(3))
        assert answer["success_count"] == 1000
    with refused("rate_limited", 429, "allocations_per_hour: 2 in 3600 s"):
        bulk(company, user_id=admin, tenant_ids=tenants, amount=D(3))
    assert company.world.value("select sum(points_allocation_balance) from tenants") == 6000


def test_at_once_in_whatever_order(company: Company) -> None:
    tenants = [company.tenant() for _ in range(8)]
    calls = [
        lambda session, order=order: company.call(
            "bulk_allocate_to_tenants", session, user_id=None, tenant_ids=order, amount=D(1)
        )
        for order in (tenants, tenants[::-1], tenants[3:] + tenants[:3], tenants[::2])
    ]
    answers = company.world.at_once(calls)
    assert [answer["failed_count"] for answer in answers] == [0] * 4  # type: ignore[index]
    assert [company.pool(tenant) for tenant in tenants] == ["4", "3"] * 4

"""The addresses of allocations, as the seeds have them: their paths, their bodies, their words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.tenants.company import Company
from tests.world import World

POINTS = "/api/v1/points"


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def admin(stack: Stack, world: World) -> Client:
    return administrator(stack, world)


@pytest.fixture
def company(world: World) -> Company:
    return Company(world)


def fault(response: Any) -> tuple[int, str, str | None]:
    problem = response.json()
    return response.status_code, problem["code"], (problem["details"] or {}).get("path")


def member(stack: Stack, company: Company, tenant: UUID, role: str) -> Client:
    return Client(stack, company.member(tenant, role))


def test_points_go_from_the_platform_to_a_lead_and_back(
    admin: Client, stack: Stack, company: Company
) -> None:
    tenant = company.tenant()
    body = {"tenant_id": str(tenant), "amount": 50000, "reference_note": "Start"}
    done = admin.post(f"{POINTS}/allocate-to-tenant", body)
    assert (done.status_code, done.json()["new_allocation_balance"]) == (200, "50000")
    assert done.json()["amount_allocated"] == "50000"

    manager, lead = (member(stack, company, tenant, r) for r in ("hr_admin", "tenant_lead"))
    given = {"lead_user_id": str(lead.user), "amount": "1000.5"}
    done = manager.post(f"{POINTS}/delegate-to-lead", given)
    assert (done.json()["lead_new_balance"], done.json()["tenant_remaining_balance"]) == (
        "1000.5", "48999.5",
    )  # fmt: skip
    back = manager.post(f"{POINTS}/recall-from-lead", {"lead_user_id": str(lead.user)})
    assert back.json()["tenant_remaining_balance"] == "50000"

    allocation = company.world.value("select id::text from allocation_logs")
    said = {"tenant_id": str(tenant), "reason": "A mistake"}
    done = admin.post(
        f"{POINTS}/reverse-allocation", {**said, "allocation_id": allocation, "amount": 1}
    )
    assert done.json()["new_balance"] == "49999"
    done = admin.post(f"{POINTS}/clawback", {**said, "amount": "9999"})
    assert done.json()["new_balance"] == "40000"
    done = service(stack).post(f"{POINTS}/clawback/{tenant}", {"reason": "All"})
    assert (done.json()["amount_clawed_back"], done.json()["new_balance"]) == ("40000", "0")


def test_many_are_allocated_to_in_one_request(admin: Client, company: Company) -> None:
    tenants = [str(company.tenant()) for _ in range(2)]
    body: dict[str, Any] = {"tenant_ids": [*tenants, str(uuid4())], "amount": "1.5"}
    results = admin.post(f"{POINTS}/bulk-allocate", body).json()["results"]
    assert [line.get("new_allocation_balance", line.get("detail")) for line in results] == [
        "1.5", "1.5", "Tenant not found",
    ]  # fmt: skip
    lines = [{"tenant_id": tenant, "amount": 2} for tenant in tenants]
    done = admin.post(f"{POINTS}/bulk-allocate", {"allocations": lines})
    assert [line["new_allocation_balance"] for line in done.json()["results"]] == ["3.5", "3.5"]
    assert fault(admin.post(f"{POINTS}/bulk-allocate", {"amount": 1})) == (
        400, "invalid_body", "$.tenant_ids",
    )  # fmt: skip


def test_a_key_makes_a_retry_the_same(admin: Client, company: Company) -> None:
    body = {"tenant_id": str(company.tenant()), "amount": 5}
    first, second = (
        admin.post(f"{POINTS}/allocate-to-tenant", body, idempotency_key="k") for _ in range(2)
    )
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert company.world.count("allocation_logs", "request_id is not null") == 1


def test_a_key_of_many_makes_a_retry_the_same(admin: Client, company: Company) -> None:
    one, two = company.tenant(), company.tenant()
    lines = [
        {"tenant_id": str(tenant), "amount": amount}
        for tenant, amount in ((one, 1), (two, 2), (one, 4))
    ]
    # A request without a key has one too, which nobody knows; each line is meant even so.
    for headers, pools in (
        ({"idempotency_key": "k"}, ("5", "2")),
        ({"idempotency_key": "k"}, ("5", "2")),
        ({}, ("10", "4")),
    ):
        done = admin.post(f"{POINTS}/bulk-allocate", {"allocations": lines}, **headers)
        assert (done.status_code, done.json()["success_count"]) == (200, 3)
        assert (company.pool(one), company.pool(two)) == pools


def test_the_runbook_s_curl_is_told_what_is_wrong(admin: Client, stack: Stack) -> None:
    body = {"tenant_id": "test-uuid", "amount": 1000}
    assert Client(stack, credentials={}).post(
        f"{POINTS}/allocate-to-tenant", body
    ).status_code == 401  # fmt: skip
    said = admin.post(f"{POINTS}/allocate-to-tenant", body)
    assert fault(said) == (400, "invalid_body", "$.tenant_id")
    said = admin.post(f"{POINTS}/allocate-to-tenant", {**body, "tenant_id": str(uuid4())})
    assert (fault(said), said.json()["detail"]) == (
        (404, "tenant_not_found", None), "Tenant not found",
    )  # fmt: skip
    said = admin.post(f"{POINTS}/clawback/test-uuid", {"reason": "x"})
    assert fault(said)[:2] == (400, "invalid_body")


def test_a_pool_that_is_short_says_so_in_the_seeds_words(
    admin: Client, stack: Stack, company: Company
) -> None:
    tenant = company.tenant(100)
    manager, lead = (member(stack, company, tenant, r) for r in ("tenant_manager", "manager"))
    said = manager.post(
        f"{POINTS}/delegate-to-lead", {"lead_user_id": str(lead.user), "amount": 1000}
    )
    words = "Insufficient company allocation pool. Available: 100, Required: 1000"
    assert (said.status_code, said.json()["detail"]) == (400, words)
    said = admin.post(f"{POINTS}/clawback/{tenant}", {"reason": "x", "amount": 1000})
    assert (said.status_code, said.json()["detail"]) == (400, words)


def test_the_hourly_limit_is_a_429_that_says_when(admin: Client, company: Company) -> None:
    company.world.operator.execute("update allocation_limits set allocations_per_hour_max = 1")
    body = {"tenant_id": str(company.tenant()), "amount": 5}
    assert admin.post(f"{POINTS}/allocate-to-tenant", body).status_code == 200
    said = admin.post(f"{POINTS}/allocate-to-tenant", body)
    assert (said.status_code, said.json()["code"]) == (429, "rate_limited")
    assert 3500 < int(said.headers["retry-after"]) <= 3600
    # Where addresses are not known, another administrator is another one.
    other = administrator(admin.stack, company.world)
    assert other.post(f"{POINTS}/allocate-to-tenant", body).status_code == 200


def test_the_hourly_limit_is_the_address_s_too(
    database: Database, tmp_path: Path, company: Company
) -> None:
    company.world.operator.execute("update allocation_limits set allocations_per_hour_max = 2")
    tenant = company.tenant()
    body, many = {"tenant_id": str(tenant), "amount": 5}, {"tenant_ids": [str(tenant)], "amount": 1}
    with running(
        database, tmp_path, with_postgrest=False, TALLYBOOK_CLIENT_ADDRESS="peer"
    ) as stack:
        one, other, third = (administrator(stack, company.world) for _ in range(3))
        assert one.post(f"{POINTS}/allocate-to-tenant", body).status_code == 200
        assert other.post(f"{POINTS}/bulk-allocate", many).status_code == 200
        said = third.post(f"{POINTS}/allocate-to-tenant", body)
        assert (said.status_code, said.json()["code"]) == (429, "rate_limited")
        # A program speaks for many people from one address.
        assert service(stack).post(f"{POINTS}/allocate-to-tenant", body).status_code == 200


def test_whoever_manages_one_company_does_nothing_to_another(
    stack: Stack, company: Company
) -> None:
    mine, theirs = company.tenant(100), company.tenant(100)
    manager = member(stack, company, mine, "tenant_manager")
    lead = company.member(theirs, "tenant_lead")
    named = {"tenant_id": str(theirs)}
    for path, body, status in (
        ("allocate-to-tenant", {**named, "amount": 1}, 403),
        ("bulk-allocate", {"tenant_ids": [str(theirs)], "amount": 1}, 403),
        ("clawback", {**named, "reason": "x"}, 403),
        (f"clawback/{theirs}", {"reason": "x"}, 403),
        ("reverse-allocation", {**named, "allocation_id": str(uuid4()), "reason": "x"}, 403),
        ("delegate-to-lead", {**named, "lead_user_id": str(lead), "amount": 1}, 403),
        ("delegate-to-lead", {"lead_user_id": str(lead), "amount": 1}, 404),
        ("recall-from-lead", {**named, "lead_user_id": str(lead)}, 403),
        ("recall-from-lead", {"lead_user_id": str(lead)}, 404),
    ):
        assert manager.post(f"{POINTS}/{path}", body).status_code == status, path
    assert (company.pool(mine), company.pool(theirs)) == ("100", "100")


def test_it_can_be_switched_off(database: Database, tmp_path: Path, world: World) -> None:
    with running(
        database, tmp_path, with_postgrest=False, POINTS_ALLOCATION_ENABLED="false"
    ) as stack:
        said = administrator(stack, world).post(f"{POINTS}/clawback/{uuid4()}", {"reason": "x"})
    assert fault(said)[0] == 503

"""The addresses of recognitions and awards: their paths, their bodies, their words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.tenants.company import Company
from tests.world import World

RECOGNITIONS = "/api/recognitions"
AWARD = "/api/v1/points/award-to-user"


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def company(world: World) -> Company:
    return Company(world)


def member(stack: Stack, company: Company, tenant: UUID, role: str = "employee") -> Client:
    return Client(stack, company.member(tenant, role))


def praise(client: Client, to: Client, **fields: Any) -> httpx.Response:
    body = {"to_user_id": str(to.user), "points": 1000, "message": "Great work!", **fields}
    return client.post(RECOGNITIONS, body)


def listed(client: Client, **query: str) -> Any:
    answer = httpx.get(
        f"{client.stack.url}{RECOGNITIONS}", headers=client.credentials, params=query, timeout=20
    )
    assert answer.status_code == 200
    return answer.json()


def fault(response: httpx.Response) -> tuple[int, str, str | None]:
    problem = response.json()
    return response.status_code, problem["code"], (problem["details"] or {}).get("path")


def test_a_manager_gives_the_member_sees_it_and_it_is_revoked(
    stack: Stack, company: Company, world: World
) -> None:
    tenant = company.tenant(50_000)
    manager, somebody = member(stack, company, tenant, "tenant_manager"), Client(stack)
    company.member(tenant, user_id=somebody.user)
    given = praise(manager, somebody)
    assert (given.status_code, given.json()["tenant_remaining_pool"]) == (200, "49000")
    assert given.json()["recipients"][0]["new_wallet_balance"] == "1000"
    (row,) = listed(somebody, scope="received")["recognitions"]
    assert (row["message"], row["points"]) == ("Great work!", "1000")
    assert listed(somebody, scope="given", limit="5")["recognitions"] == []

    address = f"{RECOGNITIONS}/{row['recognition_id']}/revoke"
    assert fault(manager.post(address, {"reason": "No"})) == (409, "not_reversible", None)
    admin = administrator(stack, world)
    revoked = admin.post(address, {"reason": "A mistake", "tenant_id": str(tenant)})
    assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
    again = service(stack).post(address, {"reason": "A mistake", "tenant_id": str(tenant)})
    assert again.headers["idempotent-replayed"] == "true"
    assert (company.pool(tenant), company.wallet(tenant, somebody.user)) == ("50000", "0")


def test_a_group_and_a_key(stack: Stack, company: Company) -> None:
    tenant = company.tenant(100)
    manager = member(stack, company, tenant, "hr_admin")
    group = [str(company.member(tenant)) for _ in range(3)]
    body = {"to_user_ids": group, "points": "0.05", "split": "equal", "message": "Together"}
    first = manager.post(RECOGNITIONS, body, idempotency_key="k")
    assert [r["points"] for r in first.json()["recipients"]] == ["0.02", "0.02", "0.01"]
    again = manager.post(RECOGNITIONS, body, idempotency_key="k")
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    # Without a key each is new.
    for _ in range(2):
        assert "idempotent-replayed" not in manager.post(RECOGNITIONS, body).headers
    assert company.pool(tenant) == "99.85"


def test_a_body_says_whom_and_what_is_wrong_with_it_is_told(stack: Stack, company: Company) -> None:
    tenant = company.tenant(100)
    manager, other = (member(stack, company, tenant, r) for r in ("manager", "employee"))
    wrong = (400, "invalid_body", "$.to_user_id")
    twice = praise(manager, other, to_user_ids=[str(other.user)])
    assert fault(twice) == (400, "invalid_body", None)
    assert fault(manager.post(RECOGNITIONS, {"message": "Hello"})) == wrong
    assert fault(praise(manager, other, points=-1)) == (400, "invalid_amount", "$.points")
    assert fault(praise(manager, other, message=" ")) == (400, "invalid_body", "$.message")
    assert fault(praise(manager, manager)) == (400, "self_recognition", None)
    assert fault(praise(manager, Client(stack))) == (404, "recipient_not_found", None)
    assert fault(praise(Client(stack), other)) == (403, "forbidden", None)


def test_an_award_answers_as_the_seeds_say(stack: Stack, company: Company, world: World) -> None:
    tenant = company.tenant(1500)
    lead, other = (member(stack, company, tenant, r) for r in ("tenant_lead", "employee"))
    body = {"to_user_id": str(other.user), "amount": 1000, "recognition_message": "Great work!"}
    done = lead.post(AWARD, body)
    assert done.status_code == 200
    answer = done.json()
    assert (answer["success"], answer["amount_awarded"]) == (True, "1000")
    assert (answer["recipient_new_wallet_balance"], answer["tenant_remaining_pool"]) == (
        "1000",
        "500",
    )
    short = lead.post(AWARD, body)
    assert (short.status_code, short.json()["detail"]) == (
        400,
        "Insufficient company allocation pool. Available: 500, Required: 1000",
    )
    assert fault(other.post(AWARD, body)) == (403, "forbidden", None)
    assert fault(lead.post(AWARD, {**body, "amount": 0})) == (400, "invalid_amount", "$.amount")
    for system in (service(stack), administrator(stack, world)):
        assert fault(system.post(AWARD, body)) == (400, "invalid_body", "$.tenant_id")
        done = system.post(AWARD, {**body, "amount": 100, "tenant_id": str(tenant)})
        assert (done.status_code, done.json()["funded_by"]) == (200, "pool")
    assert world.count("recognitions", "from_user_id is null") == 2


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (RECOGNITIONS, ("points", "message")),
        (AWARD, ("amount", "recognition_message")),
    ],
)
def test_of_64_at_once_on_a_pool_that_affords_40_exactly_40_are_given(
    stack: Stack, company: Company, address: str, words: tuple[str, str]
) -> None:
    tenant = company.tenant(400)
    givers = [member(stack, company, tenant, "manager") for _ in range(64)]
    recipient = company.member(tenant)

    async def all_at_once() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(timeout=20, limits=limits) as client:
            return await asyncio.gather(
                *(
                    client.post(
                        f"{stack.url}{address}",
                        headers=giver.credentials,
                        json={
                            "to_user_id": str(recipient),
                            **dict(zip(words, (10, "At once"), strict=True)),
                            "idempotency_key": uuid4().hex,
                        },
                    )
                    for giver in givers
                )
            )

    answers = asyncio.run(all_at_once())
    assert sorted(answer.status_code for answer in answers) == [200] * 40 + [400] * 24
    assert {a.json()["code"] for a in answers if a.status_code == 400} == {"insufficient_pool"}
    assert (company.pool(tenant), company.wallet(tenant, recipient)) == ("0", "400")

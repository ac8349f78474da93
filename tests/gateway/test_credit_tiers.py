"""Prices and tiers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.world import World

CREDITS = "/api/v1/credits"
USE = {"tokens_used": 1000, "model": "gpt-4o"}


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def user(stack: Stack) -> Client:
    return Client(stack)


def get(client: Client, path: str, **query: Any) -> httpx.Response:
    url = f"{client.stack.url}{CREDITS}/{path}"
    return httpx.get(url, params=query, headers=client.credentials or {}, timeout=20)


def switch(client: Client, tier: str, of: UUID | str | None = None) -> httpx.Response:
    body = {"tier": tier} | ({} if of is None else {"user_id": str(of)})
    return client.post(f"{CREDITS}/tiers/switch", body)


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    problem = response.json()
    return response.status_code, problem["code"], (problem["details"] or {}).get("path")


def test_a_cost_is_reckoned_at_the_users_tier(user: Client, stack: Stack) -> None:
    path = f"{CREDITS}/calculate-cost"
    assert user.post(path, USE).text == '{"cost":0.00375}'
    assert switch(service(stack), "starter", user.user).status_code == 200
    assert user.post(path, USE).text == '{"cost":0.00525}'
    for client in (Client(stack, credentials={}), service(stack)):
        assert client.post(path, USE).text == '{"cost":0.00375}'
        assert client.post(path, {**USE, "tier": "enterprise"}).text == '{"cost":0.00675}'
    assert user.post("/functions/v1/credits/calculate-cost", USE).text == '{"cost":0.00525}'


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"tier": "golden"}, "unknown_tier", "$.tier"),
        ({"tokens_used": -1}, "invalid_body", "$.tokens_used"),
        ({"tokens_used": 1.5}, "invalid_body", "$.tokens_used"),
        ({"tokens_used": 10**13}, "invalid_body", "$.tokens_used"),
        ({"tokens_used": 10**30}, "invalid_body", "$.tokens_used"),
        ({"model": ""}, "invalid_body", "$.model"),
        ({"user_id": "x"}, "invalid_body", "$.user_id"),
    ],
)
def test_what_has_no_cost(stack: Stack, change: dict[str, Any], code: str, path: str) -> None:
    nobody = Client(stack, credentials={})
    response = nobody.post(f"{CREDITS}/calculate-cost", {**USE, **change})
    assert refusal(response) == (400, code, path)


def test_the_tiers_are_compared(user: Client, stack: Stack) -> None:
    found = get(user, "tiers/compare", tokens_used=2000, power_level="eco").json()
    assert found["current"] == "free"
    assert [(tier["tier"], tier["cost"]) for tier in found["tiers"]] == [
        ("free", 0.003),
        ("trial", 0.003),
        ("starter", 0.0042),
        ("professional", 0.0048),
        ("enterprise", 0.0054),
    ]
    switch(service(stack), "trial", user.user)
    assert get(user, "tiers/compare").json()["current"] == "trial"
    program = get(service(stack), "tiers/compare", user_id=str(user.user))
    assert program.json()["current"] == "trial"
    assert refusal(get(service(stack), "tiers/compare")) == (400, "invalid_body", "$.user_id")
    assert get(Client(stack, credentials={}), "tiers/compare").status_code == 401


def test_a_user_goes_down_and_not_up(user: Client, stack: Stack) -> None:
    assert get(user, "balance").json()["tier"] == "free"
    assert refusal(switch(user, "starter")) == (403, "forbidden", "$.tier")
    assert refusal(switch(user, "golden")) == (400, "unknown_tier", "$.tier")
    assert switch(service(stack), "professional", user.user).status_code == 200
    # What the cache knew of the balance it knows anew.
    assert get(user, "balance").json()["tier"] == "professional"
    assert switch(user, "trial", user.user).json() == {
        "user_id": str(user.user),
        "tier": "trial",
        "previous_tier": "professional",
    }
    assert get(user, "balance").json()["tier"] == "trial"


def test_nobody_switches_somebody_else(user: Client, stack: Stack, world: World) -> None:
    other = Client(stack)
    assert refusal(switch(user, "free", other.user))[:2] == (403, "forbidden")
    assert refusal(switch(user, "free", "nobody@example.com"))[:2] == (403, "forbidden")
    assert refusal(switch(service(stack), "starter")) == (400, "invalid_body", "$.user_id")
    admin = administrator(stack, world)
    assert refusal(switch(admin, "starter", "nobody@example.com")) == (
        404,
        "user_not_found",
        "$.user_id",
    )
    assert switch(admin, "starter", other.user).json()["tier"] == "starter"
    (row,) = world.rows("select request_id from audit_log where action = 'credits.tier_switched'")
    assert row["request_id"]

"""The cache of balances behind the real functions: it shows, and never pays."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.conftest import Database
from tests.credits.bank import Bank
from tests.gateway.client import Client
from tests.stack import Stack, running
from tests.world import World

BALANCE = "/api/v1/credits/balance"
DEDUCT = "/api/v1/credits/deduct"


@pytest.fixture
def bank(world: World) -> Bank:
    return Bank(world)


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


def shown(stack: Stack, user: UUID, query: str = "") -> dict[str, object]:
    client = Client(stack, user)
    url = f"{stack.url}{BALANCE}{query}"
    answer = httpx.get(url, headers=client.credentials, timeout=20)
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    return body


def hits(stack: Stack) -> float:
    name = 'tallybook_credit_cache_requests_total{result="hit"}'
    lines = httpx.get(f"{stack.url}/metrics", timeout=20).text.splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))


def test_who_looks_twice_is_answered_from_the_cache(stack: Stack, bank: Bank) -> None:
    user = bank.customer("0.00375")
    before = hits(stack)
    first = shown(stack, user)
    assert first == {"balance": 0.00375, "tier": "free", "monthly_cap": None}
    assert shown(stack, user) == first
    assert hits(stack) - before == 1
    assert len(shown(stack, user, "?include_history=true")["history"]) == 1  # type: ignore[arg-type]
    assert hits(stack) - before == 1


def test_what_is_deducted_shows_at_once(stack: Stack, bank: Bank) -> None:
    user = bank.customer(10)
    shown(stack, user)
    answer = Client(stack, user).post(DEDUCT, {"amount": 2.5})
    assert (answer.status_code, answer.json()["new_balance"]) == (200, 7.5)
    assert "account" not in answer.json()
    # A change elsewhere is not seen before the entry's time is up: this one comes from the cache.
    bank.give(user, 100)
    assert shown(stack, user)["balance"] == 7.5


def test_a_poisoned_cache_pays_for_nothing(
    stack: Stack, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallybook.balance_cache import MemoryCache

    riches = {"balance": Decimal(10**9), "tier": "enterprise", "monthly_cap": None}

    async def rich(self: MemoryCache, user_id: UUID | str) -> dict[str, object]:
        return dict(riches)

    monkeypatch.setattr(MemoryCache, "get", rich)
    user = bank.customer(1)
    assert shown(stack, user)["balance"] == 10**9
    client = Client(stack, user)
    answer = client.post(DEDUCT, {"amount": 2})
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
    answer = client.post(
        "/api/v1/credits/calculate-and-deduct", {"tokens_used": 10**9, "model": "gpt-4o"}
    )
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
    assert bank.balance(user) == 1


def test_a_cache_that_breaks_costs_nobody_an_answer(
    stack: Stack, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallybook.balance_cache import MemoryCache

    async def broken(self: MemoryCache, *_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(MemoryCache, "get", broken)
    monkeypatch.setattr(MemoryCache, "put", broken)
    user = bank.customer(3)
    assert shown(stack, user)["balance"] == 3
    assert Client(stack, user).post(DEDUCT, {"amount": 1}).json()["new_balance"] == 2


def test_switched_off_every_look_is_at_the_database(
    database: Database, bank: Bank, tmp_path: Path
) -> None:
    user = bank.customer(3)
    with running(database, tmp_path, with_postgrest=False, CREDIT_CACHE_TTL="0") as stack:
        for balance in (3, 4, 5):
            assert shown(stack, user)["balance"] == balance
            bank.give(user, 1)

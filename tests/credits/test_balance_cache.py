"""What the cache of balances knows, and that nothing is ever spent by it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tallybook import balance_cache, metrics
from tallybook.balance_cache import MemoryCache, NoCache, RedisCache, balance_cache_of
from tallybook.credits import cached_balance, remember_account, remember_balance, take_account
from tallybook.runtime import Runtime
from tallybook.settings import ConfigurationError, Settings
from tests.corridor.doubles import PROGRAM, Procedures
from tests.credits.bank import Bank

USER = uuid4()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def account(balance: object, version: int, **more: Any) -> dict[str, Any]:
    return {"balance": balance, "tier": "free", "monthly_cap": None, "version": version, **more}


def runtime(**environment: str) -> Runtime:
    settings = Settings.from_environment(environment)
    return Runtime(settings, None, Procedures())  # type: ignore[arg-type]


async def test_what_was_put_is_there_until_its_time_is_up() -> None:
    clock = Clock()
    cache = MemoryCache(60, clock)
    assert await cache.get(USER) is None
    await cache.put(str(USER), account(D("0.00375"), 1))
    clock.now = 59.9
    assert await cache.get(USER) == {"balance": D("0.00375"), "tier": "free", "monthly_cap": None}
    clock.now = 60
    assert await cache.get(USER) is None


async def test_an_older_version_never_takes_the_place_of_a_newer_one() -> None:
    cache = MemoryCache(60, Clock())
    await cache.put(USER, account(2, 2))
    await cache.put(USER, account(1, 1))
    assert (await cache.get(USER) or {})["balance"] == 2
    await cache.put(USER, account(3, 2))
    assert (await cache.get(USER) or {})["balance"] == 3


async def test_an_entry_whose_time_is_up_holds_nothing_back() -> None:
    clock = Clock()
    cache = MemoryCache(60, clock)
    await cache.put(USER, account(2, 2))
    clock.now = 60
    await cache.put(USER, account(1, 1))
    assert (await cache.get(USER) or {})["balance"] == 1


async def test_who_was_put_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance_cache, "ENTRIES_MAX", 2)
    cache = MemoryCache(60, Clock())
    for user in "abac":
        await cache.put(user, account(1, 1))
    assert [user for user in "abc" if await cache.get(user)] == ["a", "c"]


async def test_what_is_forgotten_or_changed_outside_is_not_there() -> None:
    cache = MemoryCache(60, Clock())
    await cache.put(USER, account(1, 9))
    found = await cache.get(USER) or {}
    found["balance"] = 10**9
    assert (await cache.get(USER) or {})["balance"] == 1
    await cache.forget(USER)
    assert await cache.get(USER) is None
    await cache.put(USER, account(1, 1))
    await cache.close()
    assert await cache.get(USER) is None


async def test_which_cache_the_settings_mean() -> None:
    assert isinstance(runtime().balance_cache, MemoryCache)
    url = "redis://localhost:6379/0"
    assert isinstance(runtime(CREDIT_CACHE_URL=url).balance_cache, RedisCache)
    off = balance_cache_of(
        Settings.from_environment({"CREDIT_CACHE_TTL": "0", "CREDIT_CACHE_URL": url})
    )
    assert isinstance(off, NoCache)
    await off.put(USER, account(1, 1))
    await off.forget(USER)
    assert await off.get(USER) is None


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "redis://cache.example.com:6379", "redis://:pw@localhost:port", "redis:"],
)
def test_an_address_that_is_none_does_not_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="CREDIT_CACHE_URL"):
        Settings.from_environment({"CREDIT_CACHE_URL": url})


def test_the_addresss_password_does_not_show() -> None:
    settings = Settings.from_environment({"CREDIT_CACHE_URL": "rediss://:canary@cache.example/0"})
    assert "canary" not in repr(settings)


async def test_hits_misses_and_their_share_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "_cache_asked", {"hit": 0, "miss": 0, "error": 0})
    before = {result: counted(f'requests_total{{result="{result}"}}') for result in ("hit", "miss")}
    cache = MemoryCache(60, Clock())
    await cache.get(USER)
    await cache.put(USER, account(1, 1))
    for _ in range(3):
        await cache.get(USER)
    assert counted('requests_total{result="hit"}') - before["hit"] == 3
    assert counted('requests_total{result="miss"}') - before["miss"] == 1
    assert counted("hit_rate") == 0.75


def counted(name: str) -> float:
    lines = metrics.text().decode().splitlines()
    return float(
        next(line for line in lines if line.startswith(f"tallybook_credit_cache_{name} ")).split()[
            1
        ]
    )


# What routes do with it


async def test_a_balance_is_answered_from_what_was_answered_before() -> None:
    process, arguments = runtime(), {"user_id": USER}
    assert await cached_balance(process, arguments) is None
    # The answer knows what has expired since the account was written.
    said = {"balance": 4, "tier": "free", "monthly_cap": 7, "account": account(5, 3)}
    await remember_balance(process, arguments, said)
    known = await cached_balance(process, arguments)
    assert known == {"balance": 4, "tier": "free", "monthly_cap": 7}
    assert await cached_balance(process, {**arguments, "include_history": True}) is None
    assert take_account(process, PROGRAM, None, dict(said)) == known


async def test_a_change_is_remembered_for_whom_it_was_about() -> None:
    process, administrator, other = runtime(), uuid4(), uuid4()
    arguments = {"user_id": administrator}
    changed = {"account": account(5, 1, user_id=str(USER))}
    await remember_account(process, arguments, changed)
    await remember_account(process, arguments, {"accounts": [account(6, 1, user_id=str(other))]})
    await remember_account(process, arguments, {"transaction_id": "replayed"})
    assert await cached_balance(process, arguments) is None
    for user, balance in ((USER, 5), (other, 6)):
        assert (await cached_balance(process, {"user_id": user}) or {})["balance"] == balance
    await remember_account(process, {"user_id": USER}, {"account": account(7, 2)})
    assert (await cached_balance(process, {"user_id": USER}) or {})["balance"] == 7


async def test_a_runtime_closes_the_cache_that_it_made() -> None:
    process = runtime()
    await remember_account(process, {"user_id": USER}, {"account": account(5, 1)})
    await process.examiner.close()
    await process.close()
    assert await process.balance_cache.get(USER) is None


@pytest.fixture
def customer(bank: Bank) -> Iterator[UUID]:
    yield bank.customer(10)


async def test_the_accounts_that_procedures_answer_fit(bank: Bank, customer: UUID) -> None:
    process = runtime()
    answer = bank.call("credit_balance", user_id=customer)
    await remember_balance(process, {"user_id": customer}, answer)
    charged = bank.call("deduct_credits", user_id=customer, amount=3)
    await remember_account(process, {"user_id": customer}, charged)
    # Two answers may come in the wrong order.
    await remember_balance(process, {"user_id": customer}, answer)
    known = await cached_balance(process, {"user_id": customer})
    now = take_account(process, PROGRAM, None, bank.call("credit_balance", user_id=customer))
    assert known == now and now["balance"] == 7
    (row,) = bank.world.rows("select internal.credit_account(%s) as account", (customer,))
    assert row["account"]["user_id"] == str(customer)
    (row,) = bank.world.rows("select internal.credit_account(%s) as account", (USER,))
    assert row["account"] == account(0, 0, user_id=str(USER))

"""The cache of balances in a real Redis: Debian's redis-server."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal as D
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis

from tallybook import balance_cache, logs
from tallybook.balance_cache import CONNECTIONS_MAX, LOG_SECONDS, PREFIX, REST_SECONDS, RedisCache
from tallybook.endpoint import ASIDE_SECONDS_MAX
from tallybook.local.postgres import free_port
from tests.conftest import Database
from tests.credits.bank import Bank
from tests.gateway.client import Client
from tests.stack import running
from tests.world import World

USER = uuid4()
KEY = f"{PREFIX}{USER}"
PASSWORD = "not-to-be-seen"


@dataclass
class Server:
    """A Redis that a test can stop and start."""

    program: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/1"

    @property
    def client(self) -> redis.Redis:
        """What `redis-cli` would show."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly no --requirepass {PASSWORD}"
        command = [self.program, *options.split(), "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                with self.client as client:
                    client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@pytest.fixture
def server() -> Iterator[Server]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    server = Server(program)
    server.start()
    yield server
    server.stop()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cache(
    server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisCache]:
    # A busy machine may be slow; how long is waited has a test of its own.
    monkeypatch.setattr(balance_cache, "WAIT_SECONDS_MAX", 10)
    monkeypatch.setattr(balance_cache, "SECONDS_MAX", 10)
    cache = RedisCache(server.url, 60, clock)
    yield cache
    await cache.close()


def account(balance: object, version: int) -> dict[str, Any]:
    return {"balance": balance, "tier": "free", "monthly_cap": None, "version": version}


async def test_a_balance_is_kept_readable_and_exact_for_a_minute_at_most(
    server: Server, cache: RedisCache
) -> None:
    assert await cache.get(USER) is None
    await cache.put(str(USER), account(D("12345678901.000001"), 3))
    assert await cache.get(USER) == {
        "balance": D("12345678901.000001"),
        "tier": "free",
        "monthly_cap": None,
    }
    with server.client as client:
        assert client.keys("credits:balance:*") == [KEY.encode()]
        assert b'"balance":12345678901.000001' in (client.get(KEY) or b"")
        assert 0 < client.ttl(KEY) <= 60
        assert json.loads(client.get(KEY) or b"")["version"] == 3
        client.pexpire(KEY, 1)
        while client.exists(KEY):
            time.sleep(0.001)
    assert await cache.get(USER) is None


async def test_an_older_version_never_takes_the_place_of_a_newer_one(cache: RedisCache) -> None:
    await cache.put(USER, account(2, 2))
    await cache.put(USER, account(1, 1))
    assert (await cache.get(USER) or {})["balance"] == 2
    await cache.put(USER, account(3, 2))
    assert (await cache.get(USER) or {})["balance"] == 3
    await cache.forget(USER)
    assert await cache.get(USER) is None


async def test_of_many_at_once_the_newest_stays(server: Server, cache: RedisCache) -> None:
    versions = [*range(1, 101)][::-1]
    await asyncio.gather(*(cache.put(USER, account(version, version)) for version in versions))
    assert (await cache.get(USER) or {})["balance"] == 100
    with server.client as client:
        assert client.info("clients")["connected_clients"] <= CONNECTIONS_MAX + 1


@pytest.mark.parametrize("kept", ["not json", "[]", "{}", '{"balance": 1}', "7"])
async def test_what_is_not_ours_is_a_miss_and_is_written_over(
    server: Server, cache: RedisCache, kept: str
) -> None:
    with server.client as client:
        client.set(KEY, kept)
    assert await cache.get(USER) is None
    await cache.put(USER, account(1, 1))
    assert (await cache.get(USER) or {})["balance"] == 1


async def test_away_it_is_a_miss_that_is_logged_once_a_minute(
    server: Server, cache: RedisCache, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    await cache.put(USER, account(1, 1))
    server.stop()
    for _ in range(3):
        assert await cache.get(USER) is None
        await cache.put(USER, account(2, 2))
        await cache.forget(USER)
        clock.now += REST_SECONDS
    clock.now = LOG_SECONDS + REST_SECONDS
    assert await cache.get(USER) is None
    logs.flush()
    said = "".join(capfd.readouterr())
    assert said.count(logs.CREDIT_CACHE_AWAY) == 2
    assert PASSWORD not in said


async def test_a_redis_that_is_back_is_used_again(
    server: Server, cache: RedisCache, clock: Clock
) -> None:
    await cache.put(USER, account(1, 1))
    server.stop()
    assert await cache.get(USER) is None
    server.start()
    # It is left alone for a moment first.
    await cache.put(USER, account(2, 2))
    assert await cache.get(USER) is None
    clock.now = REST_SECONDS
    assert await cache.get(USER) is None
    await cache.put(USER, account(2, 2))
    assert (await cache.get(USER) or {})["balance"] == 2


async def test_a_redis_that_does_not_answer_is_not_waited_for(clock: Clock) -> None:
    # The kernel connects whoever comes, and nobody is there.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cache = RedisCache(f"redis://127.0.0.1:{listener.getsockname()[1]}", 60, clock)
        began = time.monotonic()
        assert await cache.get(USER) is None
        assert time.monotonic() - began < ASIDE_SECONDS_MAX
        await cache.close()


def looked(url: str, client: Client) -> Any:
    """The balance that one process shows."""
    path = f"{url}/api/v1/credits/balance"
    return httpx.get(path, headers=client.credentials, timeout=20).json()["balance"]


def test_two_processes_see_each_others_changes(
    server: Server, database: Database, world: World, tmp_path: Path
) -> None:
    user = Bank(world).customer(10)
    with (
        running(database, tmp_path, with_postgrest=False, CREDIT_CACHE_URL=server.url) as one,
        running(database, tmp_path, with_postgrest=False, CREDIT_CACHE_URL=server.url) as other,
    ):
        client = Client(other, user)
        assert looked(one.url, client) == looked(other.url, client) == 10
        client.post("/api/v1/credits/deduct", {"amount": 4})
        # This is Redis' knowledge: what is changed behind its back does not show.
        Bank(world).give(user, 100)
        assert looked(one.url, client) == 6
        with server.client as redis_client:
            stored = json.loads(redis_client.get(f"{PREFIX}{user}") or b"")
            assert (stored["balance"], stored["tier"]) == (6, "free")
            # Forged riches show, and pay for nothing.
            redis_client.set(f"{PREFIX}{user}", json.dumps(account(10**9, 10**6)))
        assert looked(one.url, client) == 10**9
        answer = client.post("/api/v1/credits/deduct", {"amount": 107})
        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
        server.stop()
        assert looked(one.url, client) == 106

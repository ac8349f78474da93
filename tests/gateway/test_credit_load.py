"""Credits under load, over HTTP, against a server process: what the origin promised and never
proved. Ten and a hundred users at once, a statement of ten thousand lines, a year's statistics."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from tallybook.local.signing import LocalKeys
from tests.conftest import Database
from tests.credits.bank import Bank
from tests.gateway.test_load import served
from tests.world import World

CREDITS = "/api/v1/credits"
CHARGES = 10
CHARGE = {"amount": 1, "metadata": {"provider": "openai", "model": "gpt-4o", "tokens_used": 10}}

# The origin's targets.
CHARGES_A_SECOND_MIN = 50
CHARGE_SECONDS_MAX = 0.5
STATEMENT_SECONDS_MAX = 1.0
STATISTICS_SECONDS_MAX = 2.0
SLOW_SECONDS = 5.0  # of any operation; the whole statement in one piece is promised no more
STATEMENT_LINES = 10_000


@dataclass
class Seen:
    """What the users saw of their charges."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


async def charge_ten(url: str, token: str, seen: Seen) -> None:
    """Ten charges over one connection. By hand: httpx is slow where many connections wait."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    body = msgspec.json.encode(CHARGE)
    head = f"POST {CREDITS}/deduct HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n"
    for _ in range(CHARGES):
        began = time.perf_counter()
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = answer.partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(length))
        seen.seconds.append(time.perf_counter() - began)
        seen.statuses.append(int(answer.split()[1]))
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("users", [10, 100])
async def test_users_charge_at_once(database: Database, world: World, users: int) -> None:
    bank, keys, seen = Bank(world), LocalKeys.new(), Seen()
    # The last one can afford five.
    customers = [bank.customer(CHARGES if n else CHARGES // 2) for n in range(users)]
    with served(database, keys) as url:
        began = time.perf_counter()
        await asyncio.gather(*(charge_ten(url, keys.token(user), seen) for user in customers))
        took = time.perf_counter() - began
    refused = CHARGES - CHARGES // 2
    assert (seen.statuses.count(200), seen.statuses.count(402)) == (
        users * CHARGES - refused, refused,
    )  # fmt: skip
    assert [bank.balance(user) for user in customers] == [0] * users
    assert len(seen.statuses) / took > CHARGES_A_SECOND_MIN
    assert statistics.quantiles(seen.seconds, n=20)[-1] < CHARGE_SECONDS_MAX


def asked(url: str, token: str, path: str, **query: Any) -> tuple[Any, float]:
    """The answer, and how long it took at best of three: the machine may do other things too."""
    headers, took = {"authorization": f"Bearer {token}"}, []
    for _ in range(3):
        began = time.perf_counter()
        answer = httpx.get(f"{url}{CREDITS}/{path}", params=query, headers=headers, timeout=20)
        took.append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.text
    return answer, min(took)


def test_a_long_statement_is_read_in_time(database: Database, world: World) -> None:
    bank, keys = Bank(world), LocalKeys.new()
    user = bank.customer(STATEMENT_LINES)
    use_much(world, user, STATEMENT_LINES - 1)
    with served(database, keys) as url:
        token = keys.token(user)
        for query in ({}, {"offset": 9_000}, {"type": "bonus"}):
            page, seconds = asked(url, token, "transactions", limit=50, **query)
            assert page.json()["transactions"] and seconds < STATEMENT_SECONDS_MAX, query
        export, seconds = asked(url, token, "transactions/export", format="csv")
        assert export.text.count("\r\n") == STATEMENT_LINES + 1
        assert seconds < SLOW_SECONDS
        for path in ("stats", "by-model", "by-provider", "by-power-level"):
            answer, seconds = asked(url, token, f"usage/{path}")
            assert answer.json()["total"]["events"] == STATEMENT_LINES - 1
            assert seconds < STATISTICS_SECONDS_MAX, path


def use_much(world: World, user: UUID, times: int) -> None:
    """So many charges of a hundredth of a credit, all at once."""
    with world.admin.transaction():
        world.admin.execute("select internal.lock_credits(array[%s::uuid])", (user,))
        world.admin.execute(
            "with moved as materialized ("
            "  select m.id from internal.move_credits(array("
            "         select internal.credit_move(%(user)s, -0.01, 'usage', p_cost => 0.01)"
            "           from generate_series(1, %(times)s))) as m)"
            "select internal.record_usage(array("
            "  select internal.usage_event(%(user)s, 0.01, 10, 'openai', 'gpt-4o', 'eco',"
            "                              p_transaction_id => m.id) from moved as m))",
            {"user": user, "times": times},
        )

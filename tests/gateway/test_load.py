"""S1-068: a hundred users send ten events each, over a hundred connections, to a server process."""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg

from tallybook.local.signing import LocalKeys
from tallybook.route import FUNCTIONS_PATH
from tallybook.schema import ROOT
from tallybook.server import find_functions
from tests.conftest import Database
from tests.gateway.client import event
from tests.stack import running
from tests.world import World

USERS = 100
EVENTS = 10
SECONDS_P95_MAX = 0.5
START_SECONDS_MAX = 30
SECONDS_AWAY_MAX = 15  # httpx alone takes seconds to open so many connections
TALLYBOOK = Path(sys.executable).parent / "tallybook"
SUBMIT = f"{FUNCTIONS_PATH}submit-points-event"


@contextmanager
def served(database: Database, keys: LocalKeys) -> Iterator[str]:
    """`tallybook serve` as a process of its own; the block begins when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        "DATABASE_URL": database.dsn("tallybook_functions"),
        "SUPABASE_JWKS": msgspec.json.encode(keys.jwks).decode(),
        "COUPON_SECRET": keys.coupon_secret,
        "PATH": os.environ["PATH"],
    }
    command = [TALLYBOOK, "serve", "--port", str(port), "--root", ROOT]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            assert server.poll() is None and time.monotonic() < deadline, "it did not start"
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        assert server.wait(30) == 0


async def send_ten(url: str, token: str, seconds: list[float]) -> list[int]:
    """Ten events over one connection. By hand: httpx is slow where many connections wait."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    statuses = []
    for _ in range(EVENTS):
        body = msgspec.json.encode(event())
        head = f"POST {SUBMIT} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n"
        began = time.perf_counter()
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = answer.partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(length))
        seconds.append(time.perf_counter() - began)
        statuses.append(int(answer.split()[1]))
    writer.close()
    await writer.wait_closed()
    return statuses


async def test_a_hundred_users_send_ten_events_each(database: Database, world: World) -> None:
    users = [uuid4() for _ in range(USERS)]
    keys = LocalKeys.new()
    seconds: list[float] = []
    with served(database, keys) as url:
        statuses = await asyncio.gather(
            *(send_ten(url, keys.token(user), seconds) for user in users)
        )
    assert statuses == [[202] * EVENTS] * USERS
    # The mission's target, S1-098.
    assert statistics.quantiles(seconds, n=20)[-1] < SECONDS_P95_MAX
    while world.validate()["validated"]:
        pass
    assert world.count("points_events", "validation_status = 'validated'") == USERS * EVENTS
    assert [world.cache(user) for user in users] == [(200, 0, 200, 0)] * USERS


async def test_a_lost_database_is_a_503_and_not_a_hang(database: Database, tmp_path: Path) -> None:
    name = database.name
    with running(database, tmp_path, with_postgrest=False) as stack:

        def of(user: UUID) -> dict[str, str]:
            return {"authorization": f"Bearer {stack.keys.token(user)}"}

        async with httpx.AsyncClient(base_url=stack.url, headers=of(uuid4()), timeout=60) as client:
            assert (await client.post(SUBMIT, json=event())).status_code == 202
            with psycopg.connect(database.server.dsn(), autocommit=True) as other:
                other.execute(f"alter database {name} allow_connections false")
                other.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = %s and pid <> pg_backend_pid()",
                    (name,),
                )
                # Also a whole batch is told at once, and not request by request.
                async with asyncio.timeout(SECONDS_AWAY_MAX):
                    answers = await asyncio.gather(
                        *(client.post(SUBMIT, json=event(), headers=of(uuid4())) for _ in range(60))
                    )
                assert {(a.status_code, a.json()["code"]) for a in answers} == {
                    (503, "unavailable")
                }
                assert all(answer.headers["retry-after"] for answer in answers)
                other.execute(f"alter database {name} allow_connections true")
            assert (await client.post(SUBMIT, json=event())).status_code == 202


def test_every_function_is_served(database: Database, tmp_path: Path) -> None:
    served = {handler.route.path for handler in find_functions(ROOT)}  # type: ignore[attr-defined]
    with running(database, tmp_path, with_postgrest=False) as stack:
        paths = httpx.get(f"{stack.url}/openapi.json").json()["paths"]
        assert served and served <= set(paths)
        status = "/api/v1/system/status"
        for path in ("/health", "/livez", "/readyz", "/version", "/metrics", status):
            assert httpx.get(stack.url + path).status_code == 200, path

"""Asking OpenRouter about a key: what it says, what it refuses, and what when it is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal as D
from typing import Any

import httpx
import pytest

from tallybook import logs
from tallybook.attestation.circuit_breaker import FAILURES_MAX, OPEN_SECONDS
from tallybook.local.fake_openrouter import FakeKey, FakeOpenRouter
from tallybook.openrouter import ANSWER_BYTES_MAX, OpenRouter, OpenRouterAccount
from tallybook.refusal import Refusal

KEY = "sk-or-v1-0123456789abcdef"
URL = "https://openrouter.example/api/v1"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def client(answer: Callable[[httpx.Request], Any], clock: Clock | None = None) -> OpenRouter:
    return OpenRouter(URL, httpx.MockTransport(answer), clock or Clock())


async def refused(asked: OpenRouter, key: str = KEY) -> tuple[str, int]:
    """The refusal's code and status; nothing of it, and nothing before it, knows the key."""
    with pytest.raises(Refusal) as caught:
        await asked.account(key)
    error = caught.value
    assert error.__cause__ is error.__context__ is None
    assert key not in f"{error} {error.problem('/', 'r')}"
    return error.code, error.status


@pytest.mark.parametrize(
    ("key", "left"),
    [
        (FakeKey(owner="u1", limit_remaining=D("74.5")), D("74.5")),
        (FakeKey(owner="u1"), None),
        (FakeKey(owner="u1", manages=True), D("74.75")),
        (FakeKey(owner="u1", manages=True, limit_remaining=D(10)), D(10)),
        (FakeKey(owner="u1", manages=True, total_usage=D(101)), D(0)),
        (FakeKey(owner="u1", limit_remaining=D("4.89843552381")), D("4.898436")),
    ],
)
async def test_what_a_key_can_still_spend(key: FakeKey, left: D | None) -> None:
    fake = FakeOpenRouter({KEY: key})
    asked = OpenRouter(URL, fake.transport())
    assert await asked.account(KEY) == OpenRouterAccount("u1", left)
    assert fake.asked == ["/api/v1/key", "/api/v1/credits"]


async def test_it_speaks_to_a_real_server() -> None:
    fake = FakeOpenRouter({KEY: FakeKey(owner="u1", limit_remaining=D("0.1"))})
    with fake.serving() as url:
        asked = OpenRouter(url)
        assert await asked.account(KEY) == OpenRouterAccount("u1", D("0.1"))
        assert await refused(asked, "sk-or-v1-other") == ("provider_key_rejected", 400)
        await asked.aclose()
    # Nobody listens there any more.
    gone = OpenRouter(url)
    assert await refused(gone) == ("unavailable", 503)
    await gone.aclose()


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ключ", "x" * 501])
async def test_what_no_header_carries_is_not_sent(key: str) -> None:
    fake = FakeOpenRouter()
    with pytest.raises(Refusal, match="provider_key_rejected"):
        await OpenRouter(URL, fake.transport()).account(key)
    assert fake.asked == []


@pytest.mark.parametrize(
    ("status", "content", "header"),
    [
        (200, b"not json", {}),
        (200, b"{}", {}),
        (200, b'{"data": {"limit_remaining": "NaN"}}', {}),
        (200, b'{"data": {"limit_remaining": 1e30}}', {}),
        (200, b'{"data": {"limit_remaining": [1]}}', {}),
        (200, b'{"data": {"limit_remaining": 1, "creator_user_id": 5}}', {}),
        (200, b'{"data": {"limit_remaining": 1}}' + b" " * ANSWER_BYTES_MAX, {}),
        (200, b'{"data": {"limit_remaining": 1}}', {"content-encoding": "identity"}),
        (302, b"", {"location": "https://elsewhere.example/key"}),
        (404, b"", {}),
        (429, b"", {}),
    ],
)
async def test_any_other_answer_is_none_and_not_asked_for_again(
    status: int, content: bytes, header: dict[str, str]
) -> None:
    asked: list[str] = []

    def say(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, content=content, headers=header)

    assert await refused(client(say)) == ("unavailable", 503)
    assert asked == [f"{URL}/key"]


@pytest.mark.parametrize("first", [500, 503, httpx.ReadTimeout("late"), httpx.ConnectError("no")])
async def test_what_may_pass_is_tried_once_more(first: Any) -> None:
    fake = FakeOpenRouter({KEY: FakeKey(owner="u1")})
    failures = [first]

    def say(request: httpx.Request) -> httpx.Response:
        if not failures:
            return fake.transport().handle_request(request)
        failure = failures.pop()
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure)

    assert (await client(say).account(KEY)).account_id == "u1"
    failures += [first, first]
    assert await refused(client(say)) == ("unavailable", 503)
    assert failures == []


async def test_it_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallybook.openrouter.SECONDS_MAX", 0.05)

    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    assert await refused(client(never)) == ("unavailable", 503)


async def test_when_it_keeps_failing_it_is_left_alone() -> None:
    clock, asked = Clock(), []

    def say(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(500)

    away = client(say, clock)
    for _ in range(FAILURES_MAX):
        await refused(away)
    assert len(asked) == 2 * FAILURES_MAX
    assert await refused(away) == ("unavailable", 503)
    assert len(asked) == 2 * FAILURES_MAX
    clock.now = OPEN_SECONDS
    await refused(away)
    assert len(asked) == 2 * FAILURES_MAX + 1


@pytest.mark.parametrize("status", [401, 429])
async def test_one_users_key_shuts_out_nobody_else(status: int) -> None:
    fake = FakeOpenRouter({KEY: FakeKey(owner="u1")})

    def say(request: httpx.Request) -> httpx.Response:
        good = KEY in request.headers["authorization"]
        return fake.transport().handle_request(request) if good else httpx.Response(status)

    asked = client(say)
    for _ in range(FAILURES_MAX):
        await refused(asked, "sk-or-v1-worn-out")
    assert (await asked.account(KEY)).account_id == "u1"


async def test_the_log_says_that_it_is_away_and_no_key(
    capfd: pytest.CaptureFixture[str],
) -> None:
    await refused(client(lambda request: httpx.Response(500)))
    logs.log("test", message=f"with {KEY}", openrouter_api_key_encrypted="x")
    logs.flush()
    out = "".join(capfd.readouterr())
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == [logs.OPENROUTER_AWAY, "test"]
    assert lines[0]["reason"] == "error"
    assert lines[1]["openrouter_api_key_encrypted"] == "[redacted]"
    assert KEY not in out

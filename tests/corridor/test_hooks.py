"""What a route may hang on: a switch, a cache before and after the database, another rendering."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tallybook import endpoint as corridor
from tallybook import logs
from tallybook.body import Body
from tallybook.endpoint import endpoint
from tallybook.http import Handler, Rendered
from tallybook.refusal import Refusal
from tallybook.route import SERVICE, Route
from tests.corridor.doubles import USER_ID, Served, serve

PATH = "/functions/v1/do"


class Thing(Body):
    """A body."""

    thing: str = "one"


def handler(**more: Any) -> Handler:
    return endpoint(Route(**{"slug": "do", "procedure": "do", "body": Thing, **more}))


# The switch


def switched(**more: Any) -> Handler:
    return handler(enabled=lambda settings: settings.credit_system_enabled, **more)


async def test_what_is_switched_off_says_so_and_asks_nothing() -> None:
    off = serve(switched(), CREDIT_SYSTEM_ENABLED="false")
    refused = await off("POST", PATH, b"not even JSON")
    assert (refused.fault, refused.procedure) == ((503, "unavailable", None), "")
    assert int(refused.headers["retry-after"]) > 0
    assert (await serve(switched(), CREDIT_SYSTEM_ENABLED="true")("POST", PATH, {})).status == 200


async def test_who_may_not_call_it_does_not_learn_of_the_switch() -> None:
    off = serve(switched(callers=SERVICE), CREDIT_SYSTEM_ENABLED="false")
    assert (await off("POST", PATH, {})).fault == (403, "forbidden", None)


# Before and after


class Cache:
    """A cache that says what it is told to, and remembers what it was told."""

    def __init__(self, known: Any = None, fails: Any = None) -> None:
        self.known, self.fails = known, fails
        self.asked: list[Any] = []
        self.told: list[Any] = []

    async def before(self, runtime: Any, arguments: Any) -> Any:
        self.asked.append(dict(arguments))
        await self._fail()
        return self.known

    async def after(self, runtime: Any, arguments: Any, answer: Any) -> None:
        self.told.append((dict(arguments), dict(answer)))
        await self._fail()

    async def _fail(self) -> None:
        if self.fails == "hangs":
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails

    def served(self, answer: Any = None, **more: Any) -> Served:
        return serve(handler(before=self.before, after=self.after, **more), answer=answer)


async def test_what_is_known_is_not_asked() -> None:
    cache = Cache(known={"balance": 5})
    api = cache.served({"balance": 7}, finish=lambda _r, _c, _b, answer: {**answer, "done": 1})
    answer = await api("POST", PATH, {"thing": "two"})
    assert (answer.body, api.database.calls) == ({"balance": 5, "done": 1}, 0)
    assert (cache.asked, cache.told) == ([{"thing": "two", "user_id": USER_ID}], [])


async def test_what_is_known_is_not_changed_by_what_becomes_of_it() -> None:
    known = {"balance": 5, "replayed": True, "rate_limit": None}
    cache = Cache(known=known)
    for _ in range(2):
        assert (await cache.served()("POST", PATH, {})).body == {"balance": 5}
    assert known == {"balance": 5, "replayed": True, "rate_limit": None}


async def test_what_was_answered_is_told_as_it_was() -> None:
    cache = Cache()
    raw = {"balance": 7, "account": {"version": 2}, "replayed": True}

    def finish(_runtime: Any, _caller: Any, _body: Any, answer: Any) -> Any:
        del answer["account"]
        return answer

    answer = await cache.served(raw, writes=True, finish=finish)("POST", PATH, {})
    assert answer.body == {"balance": 7}
    ((arguments, told),) = cache.told
    assert told == raw
    assert arguments == cache.asked[0] and arguments["request_id"]


@pytest.mark.parametrize("how", ["raised", "returned", "defect"])
async def test_a_refusal_is_told_to_nobody(how: str) -> None:
    cache = Cache()
    entry = {"code": "no", "status": 409, "detail": None, "hint": None}
    answers = {
        "raised": Refusal("no", 409),
        "returned": {"refusal": entry},
        "defect": RuntimeError("the inside"),
    }
    assert (await cache.served(answers[how])("POST", PATH, {})).status in (409, 500)
    assert cache.told == []


@pytest.mark.parametrize(
    "fails", [RuntimeError("the cache"), Refusal("no", 409), TimeoutError(), "hangs"], ids=repr
)
async def test_a_cache_that_fails_is_gone_round(
    fails: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corridor, "ASIDE_SECONDS_MAX", 0.01)
    cache = Cache(known={"balance": 5}, fails=fails)
    api = cache.served({"balance": 7})
    answer = await api("POST", PATH, {})
    assert (answer.status, answer.body, api.database.calls) == (200, {"balance": 7}, 1)
    assert len(cache.asked) == len(cache.told) == 1
    logs.flush()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["event"], line["operation"]) for line in lines] == [("points.error", "do")] * 2
    assert all(line["stack_trace"] for line in lines)


async def test_a_cache_that_fails_at_once_is_gone_round_too() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no coroutine at all")

    api = serve(handler(before=broken, after=broken), answer={"balance": 7})
    assert (await api("POST", PATH, {})).body == {"balance": 7}


async def test_who_gives_up_is_not_held() -> None:
    cache = Cache(fails="hangs")
    request = asyncio.create_task(cache.served()("POST", PATH, {}))
    while not cache.asked:
        await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


# Asking somebody else


async def test_an_argument_may_be_waited_for() -> None:
    async def prepare(_runtime: Any, _caller: Any, body: Thing) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"made": body.thing}

    api = serve(handler(prepare=prepare, consumed=frozenset({"thing"})))
    assert (await api("POST", PATH, {})).arguments == {"user_id": USER_ID, "made": "one"}


async def test_who_is_asked_may_refuse() -> None:
    async def prepare(_runtime: Any, _caller: Any, _body: Thing) -> dict[str, Any]:
        raise Refusal("provider_key_rejected", 400)

    refused = await serve(handler(prepare=prepare))("POST", PATH, {})
    assert (refused.fault, refused.procedure) == ((400, "provider_key_rejected", None), "")


# Another rendering


def as_csv(body: Thing, answer: Any) -> Rendered | None:
    """CSV for who wants two."""
    if body.thing != "two":
        return None
    rows = "\r\n".join(answer["rows"]).encode()
    name = f'attachment; filename="{body.thing}.csv"'
    return Rendered("text/csv; charset=utf-8", rows, {"Content-Disposition": name})


async def test_an_answer_may_be_something_else_than_json() -> None:
    api = serve(handler(render=as_csv, paths=("GET /do",)), answer={"rows": ["a,b", "1,ü"]})
    got = await api("GET", "/do?thing=two", headers={"x-request-id": "r-1"})
    assert (got.status, got.raw) == (200, "a,b\r\n1,ü".encode())
    assert got.headers["content-type"] == "text/csv; charset=utf-8"
    assert got.headers["content-disposition"] == 'attachment; filename="two.csv"'
    assert got.headers["content-length"] == str(len(got.raw))
    assert (got.headers["x-request-id"], got.headers["cache-control"]) == ("r-1", "no-store")
    assert (await api("GET", "/do")).body == {"rows": ["a,b", "1,ü"]}


async def test_a_refusal_stays_a_problem() -> None:
    api = serve(handler(render=as_csv), answer=Refusal("no", 404))
    refused = await api("POST", PATH, {"thing": "two"})
    assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b=c", "a\nb", "a\0b", "a\x7fb"])
def test_a_name_does_not_become_a_header(value: str) -> None:
    for headers in ({"content-disposition": value}, {value: "x"}):
        with pytest.raises(ValueError):
            Rendered("text/csv", b"", headers)
    with pytest.raises(ValueError):
        Rendered(value, b"")


# How the system is


async def test_the_status_needs_no_token() -> None:
    answer = await serve(answer={"schema": "0.1"})("GET", "/api/v1/system/status")
    assert (answer.status, answer.procedure) == (200, "readiness")
    assert {name: answer.body[name] for name in ("status", "database", "schema", "credits")} == {
        "status": "healthy",
        "database": "ok",
        "schema": "0.1",
        "credits": "enabled",
    }
    assert set(answer.body) == {"status", "version", "database", "schema", "credits", "time"}
    off = serve(answer={"schema": "0.1"}, CREDIT_SYSTEM_ENABLED="false")
    assert (await off("GET", "/api/v1/system/status")).body["credits"] == "disabled"


async def test_the_status_without_a_database_is_a_refusal() -> None:
    away = serve(answer=Refusal("unavailable", 503, "The database does not answer in time."))
    refused = await away("GET", "/api/v1/system/status")
    assert refused.fault == (503, "unavailable", None)
    assert refused.headers["retry-after"]

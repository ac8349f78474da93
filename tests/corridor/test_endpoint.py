"""The corridor with no server around it: what it asks, and what it makes of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.submit_points_event.main import submit_points_event
from tallybook import cors, logs
from tallybook.body import Body
from tallybook.endpoint import endpoint
from tallybook.http import AsgiRequest, Handler, Message
from tallybook.refusal import Refusal
from tallybook.route import SERVICE, USERS, Route
from tests.corridor.doubles import PROGRAM, USER_ID, ask

LIMIT = "per_hour: 100 in 3600 s; again in 1234 s"


class Thing(Body):
    """A body."""

    thing: str = "one"
    key: str | None = None
    per_hour: int | None = None


def handler(**route: Any) -> Handler:
    """A function that calls the procedure `do`."""
    return endpoint(Route(**{"slug": "do", "procedure": "do", "body": Thing, **route}))


async def nothing() -> Message:
    raise AssertionError("the body is not asked for")


async def test_a_function_without_its_configuration_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABASE_URL", "SUPABASE_DB_URL"):
        monkeypatch.delenv(name, raising=False)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    answer = await submit_points_event(AsgiRequest(scope, nothing))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert json.loads(answer.body)["code"] == "unavailable"
    logs.flush()
    # The log names it, and where it was missed; the client does not learn it.
    (line,) = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert "DATABASE_URL" in line["error_message"]
    assert "Traceback" in line["stack_trace"]
    assert b"DATABASE_URL" not in answer.body


# What the procedure is told


async def test_a_user_is_who_the_token_says() -> None:
    asked = await ask(handler(), {"thing": "two"})
    assert asked.procedure == "do"
    assert asked.arguments == {"user_id": USER_ID, "thing": "two"}


async def test_where_users_may_ask_a_program_says_that_it_is_none() -> None:
    asked = await ask(handler(callers=USERS | SERVICE), {}, caller=PROGRAM)
    assert asked.arguments == {"user_id": None, "thing": "one"}


async def test_where_only_programs_may_ask_nobody_asks_who() -> None:
    asked = await ask(handler(callers=SERVICE), {}, caller=PROGRAM)
    assert asked.arguments == {"thing": "one"}


@pytest.mark.parametrize(
    ("callers", "caller"), [(USERS, PROGRAM), (SERVICE, None)], ids=["program", "user"]
)
async def test_nobody_else_gets_to_the_database(callers: frozenset[str], caller: Any) -> None:
    options = {"caller": caller} if caller else {}
    asked = await ask(handler(callers=callers), {}, **options)
    assert (asked.status, asked.body["code"], asked.procedure) == (403, "forbidden", "")


@pytest.mark.parametrize("route", [{"writes": True}, {"key": "key"}], ids=["writes", "key"])
async def test_what_writes_is_told_the_request(route: dict[str, Any]) -> None:
    asked = await ask(handler(**route), {"key": "k"}, headers={"x-request-id": "r-1"})
    assert asked.arguments["request_id"] == asked.headers["x-request-id"] == "r-1"


async def test_a_consumed_field_is_not_handed_on() -> None:
    def prepare(_runtime: Any, _caller: Any, body: Thing) -> dict[str, Any]:
        return {"made_of_it": len(body.thing)}

    asked = await ask(handler(prepare=prepare, consumed=frozenset({"thing"})), {"thing": "four"})
    assert asked.arguments == {"user_id": USER_ID, "made_of_it": 4}


async def test_the_address_is_for_who_asks_for_it() -> None:
    where: dict[str, Any] = {"client": ("203.0.113.7", 5), "TALLYBOOK_CLIENT_ADDRESS": "peer"}
    assert (await ask(handler(address=True), {}, **where)).arguments["ip_address"] == "203.0.113.7"
    assert "ip_address" not in (await ask(handler(), {}, **where)).arguments
    assert "ip_address" not in (await ask(handler(address=True), {})).arguments
    # A shop's program asks for all of its customers from one address.
    program = handler(address=True, callers=USERS | SERVICE)
    assert "ip_address" not in (await ask(program, {}, caller=PROGRAM, **where)).arguments


# What becomes of its answer


async def test_a_refusal_that_was_returned_is_a_refusal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    entry = {"code": "coupon_not_valid", "status": 404, "detail": "No.", "hint": "Look again."}
    asked = await ask(handler(), {}, {"refusal": entry, "replayed": True, "secret": 1})
    assert (asked.status, asked.headers["content-type"]) == (404, "application/problem+json")
    said = {name: asked.body[name] for name in entry}
    assert said == entry
    assert "idempotent-replayed" not in asked.headers and "secret" not in asked.body
    logs.flush()
    assert "points.error" not in capfd.readouterr().err


async def test_a_returned_refusal_points_at_its_argument_like_any_other() -> None:
    entry = {"code": "nonce_reused", "status": 409, "detail": "key: again", "hint": None}
    asked = await ask(handler(), {}, {"refusal": entry})
    assert asked.body["details"] == {"path": "$.key"}


@pytest.mark.parametrize("how", ["raised", "returned"])
async def test_too_many_requests_are_told_when_to_come_back(how: str) -> None:
    entry = {"code": "rate_limited", "status": 429, "detail": LIMIT, "hint": None}
    answer = {"refusal": entry} if how == "returned" else Refusal("rate_limited", 429, LIMIT)
    asked = await ask(handler(), {}, answer)
    assert (asked.status, asked.body["code"], asked.body["retryable"]) == (
        429,
        "rate_limited",
        True,
    )
    limits = ("retry-after", "ratelimit-policy", "ratelimit")
    assert [asked.headers[name] for name in limits] == [
        "1234",
        '"per_hour";q=100;w=3600',
        '"per_hour";r=0;t=1234',
    ]
    # The body has a field of that name, and the fault is not there.
    assert asked.body["details"] is None


ALLOWED = {
    "policy": "per_day",
    "quota": 500,
    "window_seconds": 86400,
    "remaining": 499,
    "reset_seconds": 70,
}


async def test_an_answer_says_what_is_left_of_a_limit() -> None:
    asked = await ask(handler(status=202), {}, {"id": 7, "rate_limit": ALLOWED})
    assert (asked.status, asked.body) == (202, {"id": 7})
    assert asked.headers["ratelimit-policy"] == '"per_day";q=500;w=86400'
    assert asked.headers["ratelimit"] == '"per_day";r=499;t=70'
    assert "retry-after" not in asked.headers


@pytest.mark.parametrize("answer", [{"replayed": True}, {"rate_limit": None}], ids=str)
async def test_an_answer_without_a_limit_says_nothing_of_one(answer: dict[str, Any]) -> None:
    asked = await ask(handler(), {}, answer)
    assert (asked.status, asked.body) == (200, {})
    assert not {"ratelimit", "ratelimit-policy", "retry-after"} & set(asked.headers)


async def test_a_defect_is_logged_and_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    asked = await ask(handler(), {}, RuntimeError("the inside"))
    assert (asked.status, asked.body["code"], asked.body["detail"]) == (500, "internal_error", None)
    logs.flush()
    assert "the inside" in capfd.readouterr().err


def test_a_browser_may_read_what_the_headers_say() -> None:
    exposed = cors.headers("https://a.example", ["*"])["access-control-expose-headers"]
    assert set(exposed.split(", ")) == {
        *("idempotent-replayed", "x-request-id", "retry-after", "ratelimit", "ratelimit-policy"),
        *("x-next-cursor", "content-disposition"),
    }

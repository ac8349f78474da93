"""submit-points-event over HTTP: what is answered, what is refused and where the fault lies."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallybook.runtime import Runtime
from tallybook.schema import ROOT
from tallybook.server import Application
from tallybook.settings import Settings
from tests.conftest import Database
from tests.gateway.client import Client, administrator, event, service
from tests.stack import Stack, running
from tests.world import World


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    """The functions alone: no PostgREST is asked here."""
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def user(stack: Stack) -> Client:
    return Client(stack)


def assert_problem(answer: httpx.Response, status: int, code: str, path: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["details"] == ({"path": path} if path else None)
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["error"] == problem["message"]
    assert set(problem) == {
        *("type", "title", "status", "detail", "instance", "error", "code", "message", "details"),
        *("hint", "request_id", "retryable"),
    }


def test_an_event_is_accepted_as_pending(user: Client, world: World) -> None:
    answer = user.submit(event(device_id="phone"), x_request_id="req-1")
    assert answer.status_code == 202
    assert answer.headers["x-request-id"] == "req-1"
    assert "idempotent-replayed" not in answer.headers
    assert answer.json()["status"] == "pending"
    row = world.rows("select * from points_events where id = %s", (answer.json()["id"],))[0]
    assert (row["user_id"], row["points_delta"], row["device_id"]) == (user.user, 20, "phone")
    assert row["request_id"] == "req-1"
    assert world.cache(user.user) == (0, 20, 0, 0)


def test_the_same_submission_twice_gives_the_same_answer(user: Client, world: World) -> None:
    submission = event(proof_payload={"steps": 1000, "source": "watch"})
    first = user.submit(submission)
    # Another order of keys and another spelling of the same instant are the same payload.
    submission["proof_payload"] = {"source": "watch", "steps": 1000}
    at = datetime.fromisoformat(submission["event_time"])
    submission["event_time"] = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    again = user.submit(submission)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert world.count("points_events") == 1


def test_a_replay_after_validation_still_gives_the_first_answer(user: Client, world: World) -> None:
    submission = event()
    first = user.submit(submission)
    world.validate()
    assert user.submit(submission).json() == first.json()


def test_the_same_nonce_with_another_payload_is_refused(user: Client, world: World) -> None:
    submission = event()
    user.submit(submission)
    answer = user.submit({**submission, "event_type": "habit_completion"})
    assert_problem(answer, 409, "nonce_reused", "$.nonce")
    assert world.count("points_events") == 1


def test_another_user_may_use_the_same_nonce(stack: Stack) -> None:
    submission = event()
    assert [Client(stack).submit(submission).status_code for _ in range(2)] == [202, 202]


def test_the_key_may_come_as_a_header(user: Client) -> None:
    submission = event()
    nonce = submission.pop("nonce")
    assert user.submit(submission, idempotency_key=nonce).status_code == 202
    assert user.submit({**submission, "nonce": nonce}).status_code == 200
    both = user.submit({**submission, "nonce": nonce}, idempotency_key=nonce)
    assert both.status_code == 200
    assert_problem(user.submit(submission), 400, "invalid_body", "$.nonce")
    differs = user.submit({**submission, "nonce": nonce}, idempotency_key="other")
    assert_problem(differs, 400, "invalid_body", "$.nonce")
    assert_problem(
        user.submit(submission, idempotency_key="x" * 201), 400, "invalid_body", "$.nonce"
    )


FAULTS: list[tuple[bytes | dict[str, Any], str]] = [
    (b"", "$"),
    (b"{", "$"),
    (b"[]", "$"),
    (b"null", "$"),
    (b'"text"', "$"),
    (b"\xff\xfe", "$"),
    ({"event_type": 7}, "$.event_type"),
    ({"event_type": ""}, "$.event_type"),
    ({"event_type": "x" * 101}, "$.event_type"),
    ({"event_time": "yesterday"}, "$.event_time"),
    ({"event_time": 1767225600}, "$.event_time"),
    ({"event_time": "2026-01-01T00:00:00"}, "$.event_time"),
    ({"event_time": None}, "$.event_time"),
    ({"nonce": ""}, "$.nonce"),
    ({"nonce": "x" * 201}, "$.nonce"),
    ({"nonce": 5}, "$.nonce"),
    ({"points": 1000000}, "$.points"),
    ({"points_delta": 5}, "$.points_delta"),
    ({"user_id": "00000000-0000-0000-0000-000000000000"}, "$.user_id"),
    ({"a b": 1}, '$["a b"]'),
    ({"related_entity_id": "seven"}, "$.related_entity_id"),
    ({"proof_payload": []}, "$.proof_payload"),
    ({"proof_payload": {"a": {"b": [1, float("nan")]}}}, "$.proof_payload.a.b[1]"),
    ({"proof_payload": {"a": float("-inf")}}, "$.proof_payload.a"),
    ({"device_info": {"name": "a\0b"}}, "$.device_info.name"),
    ({"device_info": {"a\0b": 1}}, '$.device_info["a\\u0000b"]'),
    ({"device_id": "\0"}, "$.device_id"),
]


@pytest.mark.parametrize(("fault", "path"), FAULTS, ids=[path for _, path in FAULTS])
def test_a_faulty_body_is_refused_with_the_path(
    user: Client, world: World, fault: bytes | dict[str, Any], path: str
) -> None:
    body = fault if isinstance(fault, bytes) else json.dumps({**event(), **fault}).encode()
    assert_problem(user.submit(body or b" "), 400, "invalid_body", path)
    assert world.count("points_events") == world.count("used_nonces") == 0


@pytest.mark.parametrize("missing", ["event_type", "event_time", "nonce"])
def test_a_missing_field_is_named(user: Client, missing: str) -> None:
    body = event()
    del body[missing]
    assert_problem(user.submit(body), 400, "invalid_body", f"$.{missing}")


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (timedelta(minutes=11), "event_in_future"),
        (timedelta(days=365 * 900), "event_in_future"),
        (timedelta(days=-7, minutes=-1), "event_too_old"),
        (timedelta(days=-365 * 1000), "event_too_old"),
    ],
)
def test_a_time_out_of_range_is_refused(
    user: Client, world: World, at: timedelta, code: str
) -> None:
    body = event(event_time=(datetime.now(UTC) + at).isoformat())
    assert_problem(user.submit(body), 400, code, "$.event_time")
    assert world.count("points_events") == world.count("used_nonces") == 0
    # A refused request does not consume its key.
    assert user.submit({**event(), "nonce": body["nonce"]}).status_code == 202


def test_a_body_of_a_megabyte_is_refused(user: Client, world: World) -> None:
    body = json.dumps(event(proof_payload={"x": "y" * 1_000_000})).encode()
    assert_problem(user.submit(body), 413, "body_too_large", "$")

    def parts() -> Iterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    url = f"{user.stack.url}/functions/v1/submit-points-event"
    unannounced = httpx.post(url, content=parts(), headers=user.credentials)
    assert_problem(unannounced, 413, "body_too_large", "$")
    assert world.count("points_events") == 0


def test_nesting_without_end_is_refused(user: Client) -> None:
    for opening in (b"[", b'{"a":'):
        body = b'{"proof_payload":' + opening * 12_000
        assert user.submit(body).status_code == 400


def test_what_earns_points_is_the_servers_list(user: Client) -> None:
    unknown = user.submit(event(event_type="flying"))
    assert_problem(unknown, 400, "unknown_event_type", "$.event_type")
    award = user.submit(event(event_type="admin_award"))
    assert_problem(award, 403, "event_type_not_submittable", "$.event_type")


def test_a_limit_is_told_before_and_when_it_is_reached(user: Client, world: World) -> None:
    world.operator.execute("update points_programs set events_per_hour_max = 2")
    submissions = [event() for _ in range(3)]
    first, second, third = (user.submit(submission) for submission in submissions)
    assert [answer.status_code for answer in (first, second, third)] == [202, 202, 429]
    for answer, left in ((first, 1), (second, 0)):
        assert answer.headers["ratelimit-policy"] == '"events_per_hour";q=2;w=3600'
        assert answer.headers["ratelimit"].startswith(f'"events_per_hour";r={left};t=')
        assert "retry-after" not in answer.headers and "rate_limit" not in answer.json()
    assert_problem(third, 429, "rate_limited")
    assert third.json()["retryable"]
    seconds = int(third.headers["retry-after"])
    assert 3500 < seconds <= 3600
    assert third.headers["ratelimit-policy"] == '"events_per_hour";q=2;w=3600'
    assert third.headers["ratelimit"] == f'"events_per_hour";r=0;t={seconds}'
    # A replay costs nothing and says nothing of it.
    again = user.submit(submissions[0])
    assert (again.status_code, again.json()) == (200, first.json())
    assert "ratelimit" not in again.headers


def test_a_proof_is_of_a_kind_that_counts(user: Client, world: World) -> None:
    answer = user.submit(event(proof_type="apple_health"))
    assert answer.status_code == 202
    assert world.count("points_events", "proof_type = 'apple_health'") == 1
    refused = user.submit(event(proof_type="manual_admin"))
    assert_problem(refused, 400, "proof_type_not_accepted", "$.proof_type")


@pytest.mark.parametrize(
    ("known_by", "address"),
    [(None, None), ("peer", "203.0.113.7"), ("x-forwarded-for", "198.51.100.9")],
)
async def test_the_address_is_kept_as_the_environment_says_that_it_is_known(
    stack: Stack, world: World, known_by: str | None, address: str | None
) -> None:
    told = {"TALLYBOOK_CLIENT_ADDRESS": known_by} if known_by else {}
    runtime = Runtime.from_settings(Settings.from_environment(stack.environment | told))
    transport = httpx.ASGITransport(Application(runtime, ROOT), client=("203.0.113.7", 4711))
    headers = {**(Client(stack).credentials or {}), "x-forwarded-for": "10.0.0.1, 198.51.100.9"}
    async with httpx.AsyncClient(transport=transport, base_url=stack.url) as client:
        path = "/functions/v1/submit-points-event"
        answer = await client.post(path, json=event(), headers=headers)
    await runtime.database.close()
    assert answer.status_code == 202
    assert world.value("select host(ip_address) from points_events") == address


def test_only_users_submit(stack: Stack) -> None:
    def status(**credentials: str) -> tuple[int, str | None]:
        answer = Client(stack, credentials=credentials).submit()
        return answer.status_code, answer.headers.get("www-authenticate")

    keys = stack.keys
    assert status() == (401, "Bearer")
    assert status(authorization="Bearer nonsense") == (401, "Bearer")
    assert status(authorization=f"Bearer {keys.token(None, seconds=-60)}") == (401, "Bearer")
    assert status(apikey=keys.publishable_key) == (403, None)
    assert status(apikey=keys.secret_key) == (403, None)
    assert status(authorization=f"Bearer {keys.token(None, role='service_role')}") == (403, None)


def test_only_the_service_and_administrators_validate(
    stack: Stack, user: Client, world: World
) -> None:
    path = "/functions/v1/validate-points-event"
    user.submit()
    assert_problem(user.post(path, {}), 403, "forbidden")
    assert world.cache(user.user) == (0, 20, 0, 0)
    answer = service(stack).post(path, {})
    assert (answer.status_code, answer.json()["validated"]) == (200, 1)
    named = user.submit()
    body = {"event_id": named.json()["id"]}
    assert service(stack).post(path, body).json()["validated"] == 1
    assert_problem(service(stack).post(path, body), 404, "event_not_found", "$.event_id")
    user.submit()
    assert administrator(stack, world).post(path, {}).json()["validated"] == 1
    assert world.cache(user.user) == (60, 0, 60, 0)


def test_paths_and_methods_that_are_not_there(user: Client) -> None:
    assert_problem(user.post("/functions/v1/nothing", {}), 404, "not_found")
    url = f"{user.stack.url}/functions/v1/submit-points-event"
    answer = httpx.get(url, headers=user.credentials)
    assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


def test_cross_origin_requests_are_for_the_listed_origins(user: Client) -> None:
    url = f"{user.stack.url}/functions/v1/submit-points-event"
    preflight = httpx.options(url, headers={"origin": "https://app.example.com"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "idempotency-key" in preflight.headers["access-control-allow-headers"]
    refused = user.submit(b"{", origin="https://app.example.com")
    assert refused.headers["access-control-allow-origin"] == "https://app.example.com"
    stranger = user.submit(origin="https://evil.example.com")
    assert "access-control-allow-origin" not in stranger.headers


def test_a_request_id_unfit_for_a_log_is_replaced(user: Client) -> None:
    answer = user.submit(x_request_id='evil" injected')
    assert answer.headers["x-request-id"] != 'evil" injected'


def test_a_body_that_never_ends_is_not_waited_for(
    user: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallybook.http.BODY_SECONDS_MAX", 0.1)
    address = httpx.URL(user.stack.url)
    head = (
        "POST /functions/v1/submit-points-event HTTP/1.1\r\nhost: test\r\n"
        f"authorization: {(user.credentials or {})['authorization']}\r\ncontent-length: 500\r\n\r\n"
    )
    with socket.create_connection((address.host, address.port or 80), timeout=10) as connection:
        connection.sendall(head.encode() + b'{"event_type":')
        answer = connection.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 400")
    assert world.count("points_events") == 0

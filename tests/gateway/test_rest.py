"""The gateway's REST side: what reaches PostgREST, as whom, and what is said without one."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.stack import Stack, running

ALICE, BOB = uuid4(), uuid4()


@pytest.fixture
def two_balances(database: Database) -> None:
    """A balance of nothing each, for Alice and for Bob."""
    database.connect().execute(
        "insert into public.user_points_cache (user_id) values (%s), (%s)", (ALICE, BOB)
    )


@pytest.mark.usefixtures("two_balances")
def test_a_user_reads_their_own_rows_and_no_others(stack: Stack) -> None:
    response = httpx.get(
        f"{stack.url}/rest/v1/user_points_cache?select=user_id",
        headers={"authorization": f"Bearer {stack.keys.token(ALICE)}"},
    )
    assert response.json() == [{"user_id": str(ALICE)}]


@pytest.mark.usefixtures("two_balances")
@pytest.mark.parametrize("as_bearer", [False, True])
def test_a_secret_key_reads_as_the_service(stack: Stack, as_bearer: bool) -> None:
    key = stack.keys.secret_key
    headers = {"apikey": key} | ({"authorization": f"Bearer {key}"} if as_bearer else {})
    response = httpx.get(f"{stack.url}/rest/v1/user_points_cache", headers=headers)
    assert {row["user_id"] for row in response.json()} == {str(ALICE), str(BOB)}


def test_a_publishable_key_reads_as_anon_and_is_refused(stack: Stack) -> None:
    headers = {"apikey": stack.keys.publishable_key}
    response = httpx.get(f"{stack.url}/rest/v1/user_points_cache", headers=headers)
    # PostgREST counts anon as nobody, token or not.
    assert (response.status_code, response.json()["code"]) == (401, "42501")


@pytest.mark.parametrize(
    "headers",
    [{}, {"apikey": "sb_secret_" + "x" * 32}, {"authorization": "Bearer sb_secret_" + "x" * 32}],
    ids=["none", "unknown", "bearer only"],
)
def test_whoever_shows_no_known_key_is_not_let_through(
    stack: Stack, headers: dict[str, str]
) -> None:
    response = httpx.get(f"{stack.url}/rest/v1/points_rules", headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["content-type"] == "application/problem+json"


def test_a_token_of_another_signer_is_refused_by_postgrest(stack: Stack) -> None:
    stranger = type(stack.keys).new().token(ALICE)
    response = httpx.get(
        f"{stack.url}/rest/v1/points_rules", headers={"authorization": f"Bearer {stranger}"}
    )
    assert response.status_code == 401


def test_queries_and_headers_arrive_whole(stack: Stack) -> None:
    """Percent signs, a range and a count survive the way there, the range the way back."""
    response = httpx.get(
        f"{stack.url}/rest/v1/points_rules",
        params={"select": "event_type", "description": "like.*e*", "order": "event_type"},
        headers={
            "authorization": f"Bearer {stack.keys.token(ALICE)}",
            "range": "0-1",
            "prefer": "count=exact",
        },
    )
    assert response.status_code == 206
    assert len(response.json()) == 2
    assert response.headers["content-range"].startswith("0-1/")


def test_a_body_arrives_whole(stack: Stack) -> None:
    """The procedure names the template that it did not find, so the body was read."""
    template_id = uuid4()
    arguments = {
        "p_user_id": str(ALICE),
        "p_template_id": str(template_id),
        "p_idempotency_key": "k" * 20,
        "p_code_hash": "0" * 64,
        "p_key_id": "1",
        "p_sealed_code": "s" * 100_000,
    }
    response = httpx.post(
        f"{stack.url}/rest/v1/rpc/redeem_coupon",
        content=iter([json.dumps(arguments).encode()]),
        headers={"apikey": stack.keys.secret_key, "content-type": "application/json"},
    )
    assert response.status_code == 404
    assert str(template_id) in response.json()["details"]


def test_a_browser_of_the_list_may_ask_and_others_may_not(stack: Stack) -> None:
    asking = {"access-control-request-method": "PATCH", "access-control-request-headers": "prefer"}
    url = f"{stack.url}/rest/v1/points_rules"
    allowed = httpx.options(url, headers={"origin": "https://app.example.com", **asking})
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "prefer" in allowed.headers["access-control-allow-headers"]
    assert "PATCH" in allowed.headers["access-control-allow-methods"]
    refused = httpx.get(
        url,
        headers={
            "origin": "https://elsewhere.example.com",
            "authorization": f"Bearer {stack.keys.token(ALICE)}",
        },
    )
    assert "access-control-allow-origin" not in refused.headers


def test_the_public_key_is_told_and_the_private_one_is_not(stack: Stack) -> None:
    key_set = httpx.get(f"{stack.url}/auth/v1/.well-known/jwks.json").json()
    assert [key["kid"] for key in key_set["keys"]] == [stack.keys.signing_key["kid"]]
    assert not any("d" in key for key in key_set["keys"])


def test_everything_else_is_the_servers(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/readyz").json()["status"] == "ready"
    assert httpx.get(f"{stack.url}/restless").json()["code"] == "not_found"


def test_a_postgrest_that_left_is_unavailable(stack: Stack) -> None:
    assert stack.postgrest is not None
    stack.postgrest.stop()
    response = httpx.get(
        f"{stack.url}/rest/v1/points_rules", headers={"apikey": stack.keys.secret_key}
    )
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["retry-after"] == "1"


def test_without_postgrest_the_gateway_says_how_to_get_it(
    database: Database, tmp_path: Path
) -> None:
    with running(database, tmp_path, with_postgrest=False) as stack:
        response = httpx.get(
            f"{stack.url}/rest/v1/points_rules", headers={"apikey": stack.keys.secret_key}
        )
        assert (response.status_code, response.json()["code"]) == (501, "postgrest_missing")
        assert "npm" in response.json()["hint"]
        assert httpx.get(f"{stack.url}/readyz").is_success

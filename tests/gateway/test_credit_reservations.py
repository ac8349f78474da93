"""credits/{reserve,settle,release,monthly-cap} over HTTP: for users, and for programs on behalf."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.credits.bank import Bank
from tests.gateway.client import Client, service
from tests.stack import Stack, running
from tests.world import World

CREDITS = "/api/v1/credits"


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def user(stack: Stack, world: World) -> Client:
    """Somebody with one credit."""
    return Client(stack, user=Bank(world).customer(1))


@pytest.fixture
def program(stack: Stack) -> Client:
    """An AI service."""
    return service(stack)


def get(client: Client, path: str, **query: str) -> httpx.Response:
    return httpx.get(
        f"{client.stack.url}{path}", headers=client.credentials, params=query, timeout=20
    )


def reserve(client: Client, **fields: Any) -> httpx.Response:
    return client.post(f"{CREDITS}/reserve", {"model": "gpt-4o", "max_tokens": 1000, **fields})


def outcome(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("code")


def test_a_program_reserves_and_settles_for_a_user(program: Client, user: Client) -> None:
    customer = {"user_id": str(user.user)}
    reserved = reserve(program, **customer, idempotency_key="call-1")
    assert reserved.status_code == 200
    assert set(reserved.json()) == {
        "reservation_id",
        "reserved",
        "is_price_known",
        "expires_at",
        "balance",
        "available",
    }
    assert '"reserved":0.00375,' in reserved.text.replace(" ", "")
    again = reserve(program, **customer, idempotency_key="call-1")
    assert (again.headers["idempotent-replayed"], again.json()) == ("true", reserved.json())

    used = {"reservation_id": reserved.json()["reservation_id"], "tokens_used": 400}
    settled = program.post(f"{CREDITS}/settle", {**customer, **used})
    assert settled.json() == {
        "transaction_id": used["reservation_id"],
        "cost": 0.0015,
        "charged": 0.0015,
        "released": 0.00225,
        "shortfall": 0.0,
        "new_balance": 0.9985,
    }
    again = program.post(f"{CREDITS}/settle", {**customer, **used})
    assert (again.headers["idempotent-replayed"], again.json()) == ("true", settled.json())
    assert outcome(program.post(f"{CREDITS}/release", {**customer, **used, "tokens_used": 1})) == (
        400,
        "invalid_body",
    )
    released = program.post(
        f"{CREDITS}/release", {**customer, "reservation_id": used["reservation_id"]}
    )
    assert outcome(released) == (409, "reservation_closed")
    assert released.json()["details"]["path"] == "$.reservation_id"


def test_a_user_ends_what_they_reserved_and_nothing_else(program: Client, user: Client) -> None:
    own = reserve(user).json()["reservation_id"]
    theirs = reserve(program, user_id=str(user.user)).json()["reservation_id"]
    for path, more in [("settle", {"cost": 0}), ("release", {})]:
        refused = user.post(f"{CREDITS}/{path}", {"reservation_id": theirs, **more})
        assert outcome(refused) == (403, "forbidden")
        # Nobody says for themselves that they are a program.
        said = user.post(f"{CREDITS}/{path}", {"reservation_id": theirs, "by_user": False, **more})
        assert outcome(said) == (400, "invalid_body")
    released = user.post(f"{CREDITS}/release", {"reservation_id": own})
    assert released.json() == {"reservation_id": own, "released": 0.00375, "available": 0.99625}


def test_a_user_reserves_for_nobody_else(stack: Stack, user: Client) -> None:
    other = Client(stack)
    own = reserve(user).json()["reservation_id"]
    assert outcome(reserve(other, user_id=str(user.user))) == (403, "forbidden")
    settled = other.post(f"{CREDITS}/settle", {"reservation_id": own, "tokens_used": 1})
    assert outcome(settled) == (404, "reservation_not_found")


def test_what_cannot_be_had_is_refused(stack: Stack, user: Client) -> None:
    poor = reserve(Client(stack))
    assert outcome(poor) == (402, "insufficient_credits")
    assert poor.json()["detail"] == "Insufficient credits. Balance: 0, Required: 0.00375"
    user.post(f"{CREDITS}/monthly-cap", {"monthly_cap": 0.001})
    capped = reserve(user)
    assert outcome(capped) == (429, "monthly_cap_reached")


def test_the_monthly_cap_is_set_shown_and_removed(user: Client, program: Client) -> None:
    told = user.post(f"{CREDITS}/monthly-cap", {"monthly_cap": 2.5})
    assert {name: told.json()[name] for name in ("monthly_cap", "spent", "remaining")} == {
        "monthly_cap": 2.5,
        "spent": 0.0,
        "remaining": 2.5,
    }
    assert get(user, f"{CREDITS}/monthly-cap").json() == told.json()
    assert get(program, f"{CREDITS}/monthly-cap", user_id=str(user.user)).json() == told.json()
    # Nobody removes a cap by forgetting to say one.
    assert outcome(user.post(f"{CREDITS}/monthly-cap", {})) == (400, "invalid_body")
    refused = user.post(f"{CREDITS}/monthly-cap", {"monthly_cap": -1})
    assert outcome(refused) == (400, "invalid_amount")
    removed = user.post(f"{CREDITS}/monthly-cap", {"monthly_cap": None}).json()
    assert (removed["monthly_cap"], removed["remaining"]) == (None, None)


def test_a_program_must_say_for_whom(program: Client) -> None:
    for path, body in [
        ("reserve", {"model": "gpt-4o"}),
        ("settle", {"reservation_id": str(uuid4()), "tokens_used": 1}),
        ("release", {"reservation_id": str(uuid4())}),
        ("monthly-cap", {"monthly_cap": 1}),
    ]:
        assert outcome(program.post(f"{CREDITS}/{path}", body)) == (400, "invalid_body")

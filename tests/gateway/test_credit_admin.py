"""The administrators' addresses of credits: what is malformed is refused whole, what is not is
judged one by one, and no amount is rounded on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.world import World

ADMIN = "/api/v1/admin/credits"
SOMEBODY = "d0000000-0000-4000-8000-000000000009"
GIFT = {"amount": 5, "reason": "A gift"}


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def admin(stack: Stack, world: World) -> Client:
    return administrator(stack, world)


def fault(response: Any) -> tuple[int, str, str | None]:
    problem = response.json()
    return response.status_code, problem["code"], (problem["details"] or {}).get("path")


def test_no_amount_is_rounded(admin: Client, world: World) -> None:
    user = str(uuid4())
    raw = f'{{"user_id":"{user}","amount":999999999.999999,"reason":"x"}}'
    response = admin.post(f"{ADMIN}/allocate", raw.encode())
    assert '"new_balance":999999999.999999' in response.text
    raw = f'{{"allocations":[{{"user_id":"{user}","amount":0.100001}}],"reason":"x"}}'
    response = admin.post(f"{ADMIN}/bulk-allocate", raw.encode())
    assert '"new_balance":1000000000.1' in response.text
    assert world.value("select balance::text from user_credits") == "1000000000.100000"


def test_a_key_in_the_header_counts(admin: Client, world: World) -> None:
    body = {"user_id": str(uuid4()), **GIFT}
    first, second = (
        admin.post(f"{ADMIN}/allocate", body, idempotency_key="gift-1") for _ in range(2)
    )
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    (row,) = world.rows("select actor, idempotency_key, request_id from credit_transactions")
    assert row["idempotency_key"] == "gift-1"
    assert row["request_id"]


def test_who_acts_is_who_signed_in(admin: Client, stack: Stack, world: World) -> None:
    for client in (admin, service(stack)):
        assert (
            client.post(f"{ADMIN}/allocate", {"user_id": str(uuid4()), **GIFT}).status_code == 200
        )
    rows = world.rows("select actor from credit_transactions order by id")
    assert len({row["actor"] for row in rows}) == 2
    said = admin.post(f"{ADMIN}/allocate", {"user_id": str(uuid4()), **GIFT, "actor": "eve"})
    assert fault(said) == (400, "invalid_body", "$.actor")


def test_nobody_gives_to_themselves(admin: Client) -> None:
    response = admin.post(f"{ADMIN}/allocate", {"user_id": str(admin.user), **GIFT})
    assert fault(response) == (403, "own_event", "$.user_id")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"user_id": "x", **GIFT, "amount": "much"}, "$.amount"),
        ({"user_id": "x", **GIFT, "amount": None}, "$.amount"),
        ({"user_id": "", **GIFT}, "$.user_id"),
        ({"user_id": "x", "amount": 5}, "$.reason"),
        ({"user_id": "x", **GIFT, "transaction_type": "usage"}, "$.transaction_type"),
        ({"user_id": "x", **GIFT, "expires_at": "tomorrow"}, "$.expires_at"),
        (
            {
                "user_id": "d0000000-0000-4000-8000-000000000009",
                **GIFT,
                "expires_at": "2020-01-01T00:00:00Z",
            },
            "$.expires_at",
        ),
        ({"user_id": "x", **GIFT, "source": "A Source"}, "$.source"),
        ({"user_id": "x", **GIFT, "tier": "golden"}, "$.tier"),
    ],
    ids=str,
)
def test_what_is_no_allocation_is_refused_where_it_is_wrong(
    admin: Client, body: dict[str, Any], path: str
) -> None:
    assert fault(admin.post(f"{ADMIN}/allocate", body)) == (400, "invalid_body", path)


def test_of_many_a_malformed_one_is_named_and_a_wrong_one_is_told_apart(
    admin: Client, world: World
) -> None:
    good = {"user_id": str(uuid4()), "amount": 1}
    body = {"allocations": [good, {**good, "amount": []}], "reason": "x"}
    response = admin.post(f"{ADMIN}/bulk-allocate", body)
    assert fault(response) == (400, "invalid_body", "$.allocations[1].amount")
    assert world.count("credit_transactions") == 0
    ended = {**good, "expires_at": "2020-01-01T00:00:00Z"}
    wrong = [good, {**good, "amount": 0}, ended, {**good, "user_id": "nobody"}]
    answer = admin.post(f"{ADMIN}/bulk-allocate", {"allocations": wrong, "reason": "x"}).json()
    assert [result.get("code") for result in answer["results"]] == [
        None, "invalid_amount", "invalid_body", "user_not_found",
    ]  # fmt: skip
    assert "accounts" not in answer


def test_a_thousand_fit_into_a_request_and_no_more(admin: Client) -> None:
    many = [{"user_id": str(uuid4()), "amount": 1} for _ in range(1000)]
    answer = admin.post(f"{ADMIN}/bulk-allocate", {"allocations": many, "reason": "x"})
    assert answer.json()["success_count"] == 1000
    for wrong in ([], [{"user_id": "x", "amount": 1}] * 1001):
        response = admin.post(f"{ADMIN}/bulk-allocate", {"allocations": wrong, "reason": "x"})
        assert fault(response) == (400, "invalid_body", "$.allocations")


def test_the_balance_that_is_shown_is_the_new_one(admin: Client, stack: Stack) -> None:
    user = Client(stack)

    def shown() -> Any:
        url = f"{stack.url}/api/v1/credits/balance"
        return httpx.get(url, headers=user.credentials, timeout=20).json()["balance"]

    assert shown() == 0
    admin.post(f"{ADMIN}/allocate", {"user_id": str(user.user), **GIFT})
    assert shown() == 5
    one = {"user_id": str(user.user), "amount": 2}
    admin.post(f"{ADMIN}/bulk-allocate", {"allocations": [one], "reason": "x"})
    assert shown() == 7
    used = user.post("/api/v1/credits/deduct", {"amount": 4}).json()["transaction_id"]
    refund = {"user_id": str(user.user), "transaction_id": used, "reason": "It failed"}
    assert admin.post("/api/v1/credits/refund", {**refund, "amount": 1.5}).json()["refunded"] == 1.5
    assert shown() == 4.5
    assert admin.post(f"{ADMIN}/refund", refund).json()["new_balance"] == 7
    assert shown() == 7

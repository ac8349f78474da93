"""Promotional codes and purchases over HTTP: redeemed, discounted, paid for and granted once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tallybook import logs
from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.world import World

COUPONS = "/api/v1/credits/coupons"
ADMINISTRATION = "/api/v1/admin/credits/coupons"
PURCHASES = "/api/v1/admin/credits/purchases"
SPRING = {"code": "spring", "discount_type": "fixed", "discount_value": 100.5}
HALF = {"code": "HALF", "discount_type": "percentage", "discount_value": 50}


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def boss(stack: Stack, world: World) -> Client:
    return administrator(stack, world)


def asked(client: Client, method: str, path: str, **query: Any) -> httpx.Response:
    return httpx.request(
        method,
        f"{client.stack.url}{path}",
        params=query,
        headers=client.credentials or {},
        timeout=20,
    )


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def paid(user: UUID, **more: Any) -> dict[str, Any]:
    return {"user_id": str(user), "package": "credits_10000", "payment_id": "pay_1", **more}


def test_a_code_is_made_looked_at_and_redeemed(
    stack: Stack, boss: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    made = boss.post(ADMINISTRATION, SPRING)
    assert (made.status_code, made.json()["code"]) == (200, "SPRING")
    user = Client(stack)
    looked = user.post(f"{COUPONS}/validate", {"code": "Spring"})
    assert looked.json()["valid"] is True
    assert '"discount_value":100.5' in looked.text
    redeemed = user.post(f"{COUPONS}/redeem", {"code": "Spring"})
    answer = redeemed.json()
    assert (answer["credits"], answer["new_balance"]) == (100.5, 100.5)
    assert "account" not in answer and "replayed" not in answer
    assert outcome(user.post(f"{COUPONS}/redeem", {"code": "SPRING"})) == (409, "coupon_used")
    logs.flush()
    written = "".join(capfd.readouterr()).splitlines()
    lines = [json.loads(line) for line in written if line.startswith("{")]
    (line,) = [line for line in lines if line["event"] == logs.CREDITS_PROMOTION_REDEEMED]
    assert (line["user_id"], line["promotion"]) == (str(user.user), "SPRING")


def test_a_key_makes_a_retry_the_same(stack: Stack, boss: Client) -> None:
    boss.post(f"{COUPONS}/create", SPRING)
    user = Client(stack)
    answers = [
        user.post(f"{COUPONS}/redeem", {"code": "spring"}, idempotency_key="k") for _ in "ab"
    ]
    assert answers[0].json() == answers[1].json()
    assert "idempotent-replayed" not in answers[0].headers
    assert answers[1].headers["idempotent-replayed"] == "true"


def test_a_wrong_code_is_counted_on_who_sent_it(stack: Stack, world: World) -> None:
    user = Client(stack)
    wrong = {"code": "WRONG", "device_id": "phone"}
    for path in ("redeem", "validate"):
        assert outcome(user.post(f"{COUPONS}/{path}", wrong)) == (404, "coupon_not_valid")
    rows = world.rows("select scope, failures from coupon_attempts order by scope")
    assert [tuple(row.values()) for row in rows] == [("device", 2), ("user", 2)]
    world.operator.execute("update coupon_throttles set failures_max = 2 where scope = 'user'")
    assert outcome(user.post(f"{COUPONS}/redeem", wrong)) == (429, "rate_limited")
    # A program asks for many, and each of them counts.
    others = {"code": "WRONG", "user_id": str(user.user)}
    assert outcome(service(stack).post(f"{COUPONS}/redeem", others)) == (429, "rate_limited")


@pytest.mark.parametrize("at", [ADMINISTRATION, COUPONS])
def test_codes_are_listed_and_deleted_at_both_addresses(
    stack: Stack, boss: Client, world: World, at: str
) -> None:
    for body in (SPRING, HALF):
        boss.post(ADMINISTRATION, body)
    Client(stack).post(f"{COUPONS}/redeem", {"code": "HALF"})
    listing = at if at == ADMINISTRATION else f"{at}/list"
    listed = asked(boss, "GET", listing, active="true", limit=10).json()
    assert {found["code"] for found in listed["promotions"]} == {"SPRING", "HALF"}
    assert asked(boss, "DELETE", f"{at}/spring", reason="Over").json()["deleted"] is True
    assert asked(boss, "DELETE", f"{at}/half").json()["deleted"] is False
    assert outcome(asked(boss, "DELETE", f"{at}/spring")) == (404, "promotion_not_found")
    assert asked(boss, "GET", listing, active="true").json()["total"] == 0
    assert world.count("audit_log", "reason = 'Over' and request_id is not null") == 1


def test_codes_are_made_and_ended_by_administrators(stack: Stack, boss: Client) -> None:
    boss.post(ADMINISTRATION, SPRING)
    user = Client(stack)
    assert outcome(user.post(ADMINISTRATION, HALF)) == (403, "forbidden")
    assert outcome(asked(user, "GET", ADMINISTRATION)) == (403, "forbidden")
    assert outcome(asked(user, "DELETE", f"{COUPONS}/spring")) == (403, "forbidden")
    assert outcome(user.post(PURCHASES, paid(user.user))) == (403, "forbidden")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"discount_value": "much"}, "$.discount_value"),
        ({"discount_value": 0}, "$.discount_value"),
        ({"discount_type": "gift"}, "$.discount_type"),
        ({"code": "two words"}, "$.code"),
        ({"expires_at": "2026-01-01"}, "$.expires_at"),
        ({"times_used": 5}, "$.times_used"),
    ],
)
def test_a_fault_is_pointed_at(boss: Client, body: dict[str, Any], path: str) -> None:
    answer = boss.post(ADMINISTRATION, SPRING | body)
    assert outcome(answer) == (400, "invalid_body")
    assert answer.json()["details"]["path"] == path


def test_a_discount_is_offered_and_paid_for_once(stack: Stack, boss: Client, world: World) -> None:
    boss.post(ADMINISTRATION, HALF)
    user, webhook = Client(stack), service(stack)
    assert user.post(f"{COUPONS}/redeem", {"code": "half"}).json()["credits"] == 0
    offered = asked(user, "GET", "/api/v1/credits/packages").json()["packages"]
    assert [(each["amount_due"], each["code"]) for each in offered] == [
        (5, "HALF"),
        (25, "HALF"),
        (50, "HALF"),
    ]
    short = webhook.post(PURCHASES, paid(user.user, amount_paid=4.99))
    assert outcome(short) == (409, "payment_mismatch")
    assert short.json()["details"]["path"] == "$.amount_paid"
    first, again = (webhook.post(PURCHASES, paid(user.user, amount_paid=5.00)) for _ in "ab")
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert (first.json()["discount"], first.json()["new_balance"]) == (5, 10000)
    other = webhook.post(PURCHASES, paid(user.user, package="credits_55000"))
    assert outcome(other) == (409, "nonce_reused")
    assert world.count("credit_transactions", "transaction_type = 'purchase'") == 1


def test_a_program_sees_the_offer_of_the_user_it_names(stack: Stack, boss: Client) -> None:
    boss.post(ADMINISTRATION, HALF)
    user = uuid4()
    program = service(stack)
    program.post(f"{COUPONS}/redeem", {"code": "HALF", "user_id": str(user)})
    offer = "/api/v1/credits/packages"
    assert asked(program, "GET", offer, user_id=user).json()["packages"][0]["code"] == "HALF"
    assert asked(program, "GET", offer, user_id=uuid4()).json()["packages"][0]["code"] is None
    assert outcome(asked(program, "GET", offer)) == (400, "invalid_body")
    assert outcome(asked(Client(stack), "GET", offer, user_id=user)) == (403, "forbidden")

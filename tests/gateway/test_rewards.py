"""The members' addresses: the catalogue, the wallet, a redemption and its refund, over HTTP."""

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
from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import World

POINTS = "/api/v1/points"


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop.open(Company(world))


def get(client: Client, path: str, **query: Any) -> httpx.Response:
    return httpx.get(
        f"{client.stack.url}{POINTS}/{path}", headers=client.credentials, params=query, timeout=20
    )


def test_a_member_looks_redeems_and_looks_again(stack: Stack, shop: Shop) -> None:
    member = Client(stack, shop.member(250))
    reward = str(shop.reward(100.5, stock=3))
    (offer,) = get(member, "rewards").json()["rewards"]
    assert (offer["reward_id"], offer["points_cost"], offer["stock"]) == (reward, "100.5", 3)
    answers = [
        member.post(f"{POINTS}/rewards/redeem", {"reward_id": reward}, idempotency_key="mug")
        for _ in range(2)
    ]
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"
    redeemed = answers[0].json()
    assert redeemed["new_wallet_balance"] == "149.5"
    wallet = get(member, "wallet").json()
    assert (wallet["balance"], wallet["lifetime_spent"]) == ("149.5", "100.5")
    assert wallet["entries"][0]["id"] == redeemed["ledger_entry_id"]

    body = {"redemption_id": redeemed["redemption_id"], "reason": "Broken"}
    assert member.post(f"{POINTS}/rewards/refund", body).status_code == 403
    manager = Client(stack, shop.manager)
    refunded = manager.post(f"{POINTS}/rewards/refund", body)
    assert (refunded.status_code, refunded.json()["new_wallet_balance"]) == (200, "250")
    assert get(member, "rewards").json()["rewards"][0]["stock"] == 3
    kept = shop.company.world.rows("select request_id from reward_redemptions")
    assert kept[0]["request_id"] == answers[0].headers["x-request-id"]


def test_refusals_are_as_the_catalogue_says(stack: Stack, shop: Shop) -> None:
    member = Client(stack, shop.member(10))
    dear, gone = shop.reward(10.5), shop.reward(1, stock=0)
    for reward, status, code in (
        (dear, 400, "insufficient_wallet"),
        (gone, 409, "reward_out_of_stock"),
        (uuid4(), 404, "reward_not_found"),
        ("mug", 400, "invalid_body"),
    ):
        said = member.post(f"{POINTS}/rewards/redeem", {"reward_id": str(reward)})
        assert (said.status_code, said.json()["code"]) == (status, code)
    shop.company.world.operator.execute("update tenants set redemptions_paused = true")
    said = member.post(f"{POINTS}/rewards/redeem", {"reward_id": str(dear)})
    assert (said.status_code, said.json()["code"]) == (409, "redemptions_paused")
    assert get(member, "rewards").json()["redemptions_paused"] is True


def test_a_manager_of_another_tenant_gets_nothing(stack: Stack, shop: Shop, world: World) -> None:
    other = Client(stack, Shop.open(shop.company).manager)
    reward = shop.reward(1)
    redemption = shop.redeem(shop.member(5), reward)["redemption_id"]
    tenant = {"tenant_id": str(shop.tenant)}
    for path in ("rewards", "wallet"):
        assert get(other, path, **tenant).status_code == 403
        assert get(Client(stack), path).status_code == 403
    for path, body in (
        ("redeem", {"reward_id": str(reward)}),
        ("refund", {"redemption_id": redemption, "reason": "Mine"}),
    ):
        assert other.post(f"{POINTS}/rewards/{path}", {**body, **tenant}).status_code == 403
        assert other.post(f"{POINTS}/rewards/{path}", body).status_code == 404
    assert world.count("wallet_ledger") == 2


def test_a_program_says_for_whom(stack: Stack, shop: Shop, world: World) -> None:
    program, user = service(stack), shop.member(5)
    assert get(program, "wallet").status_code == 400
    assert get(program, "wallet", user_id=user).json()["balance"] == "5"
    body = {"reward_id": str(shop.reward(2)), "user_id": str(user)}
    redeemed = program.post(f"{POINTS}/rewards/redeem", body)
    assert redeemed.json()["new_wallet_balance"] == "3"
    # A user is themselves alone.
    assert Client(stack, shop.member(5)).post(f"{POINTS}/rewards/redeem", body).status_code == 403
    refund = {"redemption_id": redeemed.json()["redemption_id"], "reason": "Lost"}
    admin = administrator(stack, world)
    assert admin.post(f"{POINTS}/rewards/refund", refund).status_code == 400
    refund["tenant_id"] = str(shop.tenant)
    assert admin.post(f"{POINTS}/rewards/refund", refund).json()["new_wallet_balance"] == "5"

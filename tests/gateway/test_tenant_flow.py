"""The seeds' flow of points from the platform to a reward, over HTTP, each with their own token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tallybook.schema import ROOT
from tallybook.server import find_functions
from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import World

POINTS = "/api/v1/points"
RECOGNITIONS = "/api/recognitions"
FOLDERS = ("allocations/", "recognitions/", "rewards/", "points-ledger/", "tenants/")


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def admin(stack: Stack, world: World) -> Client:
    return administrator(stack, world)


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop.open(Company(world))


@pytest.fixture
def manager(stack: Stack, shop: Shop) -> Client:
    return Client(stack, shop.manager)


@pytest.fixture
def employee(stack: Stack, shop: Shop) -> Client:
    return Client(stack, shop.member())


def get(client: Client, path: str, **query: Any) -> Any:
    answer = httpx.get(
        f"{client.stack.url}{path}", headers=client.credentials, params=query, timeout=20
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def pool(client: Client, **query: Any) -> str:
    stats = get(client, f"{POINTS}/tenant-allocation-stats", **query)
    return str(stats["points_allocation_balance"])


def allocate(client: Client, tenant: UUID | str, amount: Any = 50_000) -> httpx.Response:
    body = {"tenant_id": str(tenant), "amount": amount, "reference_note": "Q1"}
    return client.post(f"{POINTS}/allocate-to-tenant", body)


def praise(client: Client, to: Client, points: Any = 1000) -> httpx.Response:
    body = {"to_user_id": str(to.user), "points": points, "message": "Great work!"}
    return client.post(RECOGNITIONS, body)


def test_points_go_from_the_platform_to_a_reward(
    admin: Client, manager: Client, employee: Client, shop: Shop
) -> None:
    allocated = allocate(admin, shop.tenant)
    assert allocated.status_code == 200
    assert allocated.json()["new_allocation_balance"] == "50000"
    assert pool(manager) == "50000"
    logs = f"{POINTS}/ledger"
    (log,) = get(manager, f"{logs}/allocation-logs")["items"]
    assert (log["id"], log["amount"]) == (allocated.json()["allocation_log_id"], "50000")
    (billed,) = get(manager, f"{logs}/platform-billing-logs")["items"]
    assert (billed["id"], billed["transaction_type"]) == (
        allocated.json()["platform_log_id"],
        "CREDIT_INJECTION",
    )

    given = praise(manager, employee)
    assert given.status_code == 200
    (recipient,) = given.json()["recipients"]
    assert pool(manager) == pool(employee) == pool(admin, tenant_id=shop.tenant) == "49000"
    wallet = get(employee, f"{POINTS}/wallet")
    (entry,) = wallet["entries"]
    assert wallet["balance"] == wallet["lifetime_earned"] == "1000"
    assert (entry["id"], entry["reference_id"]) == (
        recipient["ledger_entry_id"],
        given.json()["recognition_id"],
    )
    assert {name: entry[name] for name in ("transaction_type", "source", "points")} == {
        "transaction_type": "credit",
        "source": "recognition",
        "points": "1000",
    }
    assert (entry["balance_after"], entry["created_by"]) == ("1000", str(manager.user))
    (row,) = get(manager, f"{logs}/wallet-ledger")["items"]
    assert (row["id"], row["user_id"]) == (entry["id"], str(employee.user))

    reward = str(shop.reward(400, stock=1))
    assert [r["reward_id"] for r in get(employee, f"{POINTS}/rewards")["rewards"]] == [reward]
    redeemed = employee.post(f"{POINTS}/rewards/redeem", {"reward_id": reward})
    assert (redeemed.status_code, redeemed.json()["new_wallet_balance"]) == (200, "600")
    wallet = get(employee, f"{POINTS}/wallet")
    assert [(e["source"], e["balance_after"]) for e in wallet["entries"]] == [
        ("redemption", "600"),
        ("recognition", "1000"),
    ]
    # What is spent is gone: nothing comes back to the pool.
    assert pool(manager) == "49000"
    assert (shop.company.pool(shop.tenant), shop.wallet(employee.user)) == ("49000", "600")


def test_only_the_platform_gives_a_company_points(
    admin: Client, stack: Stack, shop: Shop, world: World
) -> None:
    roles = ("tenant_manager", "hr_admin", "tenant_lead", "dept_lead", "manager", "employee")
    for role in roles:
        said = allocate(Client(stack, shop.member(role=role)), shop.tenant)
        assert (said.status_code, said.json()["code"]) == (403, "forbidden"), role
    # Who was an administrator is none.
    assert allocate(administrator(stack, world, active=False), shop.tenant).status_code == 403
    assert shop.company.pool(shop.tenant) == "0"
    for platform in (admin, service(stack)):
        assert allocate(platform, shop.tenant, 1).status_code == 200
    assert shop.company.pool(shop.tenant) == "2"


@pytest.mark.parametrize(
    ("role", "funded_by"),
    [
        ("tenant_manager", "pool"),
        ("hr_admin", "pool"),
        ("tenant_lead", "lead"),
        ("dept_lead", "pool"),
        ("manager", "pool"),
        ("employee", "wallet"),
    ],
)
def test_everybody_gives_from_where_their_role_may(
    stack: Stack, admin: Client, employee: Client, shop: Shop, role: str, funded_by: str
) -> None:
    allocate(admin, shop.tenant, 100)
    giver = Client(stack, shop.member(role=role))
    if funded_by == "lead":
        shop.company.delegate(shop.manager, giver.user, 10)
    if funded_by == "wallet":
        praise(Client(stack, shop.manager), giver, 10)
    given = praise(giver, employee, 10)
    assert (given.status_code, given.json()["funded_by"]) == (200, funded_by)
    assert (pool(giver), shop.wallet(employee.user)) == ("90", "10")


def test_every_address_wants_a_token(stack: Stack) -> None:
    """Also every way to write it, and before it is said whether the body makes sense."""
    routes = [handler.route for handler in find_functions(ROOT)]  # type: ignore[attr-defined]
    ours = [route for route in routes if route.slug.startswith(FOLDERS)]
    assert len(ours) >= 25
    nobody = Client(stack, credentials={})
    names = ("tenant_id", "recognition_id", "account", "department_id", "reward_id")
    for path in (path for route in ours for path in (*route.paths, route.path)):
        method, _, address = path.rpartition(" ")
        said = httpx.request(
            method or "POST",
            f"{stack.url}{address.format(**{name: uuid4() for name in names})}",
            headers=nobody.credentials,
            timeout=20,
        )
        assert (said.status_code, said.json()["code"]) == (401, "unauthorized"), path


def test_a_tenant_that_is_none(admin: Client) -> None:
    said = allocate(admin, "test-uuid", 1000)
    assert (said.status_code, said.json()["code"]) == (400, "invalid_body")
    assert said.json()["details"]["path"] == "$.tenant_id"
    said = allocate(admin, uuid4(), 1000)
    assert (said.status_code, said.json()["detail"]) == (404, "Tenant not found")
    assert said.json()["code"] == "tenant_not_found"


def test_a_pool_that_is_short_says_what_it_holds_and_what_is_asked(
    admin: Client, manager: Client, employee: Client, shop: Shop
) -> None:
    allocate(admin, shop.tenant, "500.5")
    words = "Insufficient company allocation pool. Available: 500.5, Required: 1000"
    award = {"to_user_id": str(employee.user), "amount": 1000, "recognition_message": "Thanks"}
    for said in (praise(manager, employee), manager.post(f"{POINTS}/award-to-user", award)):
        assert (said.status_code, said.json()["code"]) == (400, "insufficient_pool")
        assert said.json()["detail"] == words
    assert (pool(manager), shop.wallet(employee.user)) == ("500.5", "0")


def test_recognition_goes_on_while_allocation_is_switched_off(
    database: Database, tmp_path: Path, shop: Shop, world: World
) -> None:
    shop.company.fund(shop.tenant, 5000)
    lead, other, reward = str(shop.member(role="tenant_lead")), shop.member(), shop.reward(1000)
    body: dict[str, Any] = {"tenant_id": str(shop.tenant), "amount": 1, "reason": "x"}
    off = {
        "allocate-to-tenant": {"tenant_id": str(shop.tenant), "amount": 1},
        "bulk-allocate": {"tenant_ids": [str(shop.tenant)], "amount": 1},
        "clawback": body,
        f"clawback/{shop.tenant}": {"reason": "x"},
        "reverse-allocation": {**body, "allocation_id": str(uuid4())},
        "delegate-to-lead": {"lead_user_id": lead, "amount": 1},
        "recall-from-lead": {"lead_user_id": lead},
        "award-to-user": {"to_user_id": lead, "amount": 1, "recognition_message": "x"},
    }
    with running(
        database, tmp_path, with_postgrest=False, POINTS_ALLOCATION_ENABLED="false"
    ) as stack:
        admin, manager = administrator(stack, world), Client(stack, shop.manager)
        for somebody in (admin, manager):
            for path, sent in off.items():
                assert somebody.post(f"{POINTS}/{path}", sent).status_code == 503, path
        assert pool(manager) == "5000"

        employee = Client(stack, other)
        assert praise(manager, employee).status_code == 200
        assert pool(manager) == "4000"
        redeemed = employee.post(f"{POINTS}/rewards/redeem", {"reward_id": str(reward)})
        assert (redeemed.status_code, redeemed.json()["new_wallet_balance"]) == (200, "0")
        assert len(get(manager, f"{POINTS}/ledger/wallet-ledger")["items"]) == 2

"""Companies are opened and set up over HTTP: by the platform, and by their own managers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import World

TENANTS = "/api/v1/tenants"
POINTS = "/api/v1/points"


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


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def said_no(answer: httpx.Response) -> tuple[int, str, str | None]:
    problem = answer.json()
    details = problem.get("details") or {}
    return answer.status_code, problem["code"], details.get("path")


def test_a_company_is_opened_and_its_manager_sets_it_up(
    stack: Stack, world: World, admin: Client
) -> None:
    manager, member = Client(stack), uuid4()
    opened = told(
        admin.post(
            TENANTS, {"name": "Acme", "currency": "EUR", "manager_account": str(manager.user)}
        )
    )
    tenant = opened["tenant_id"]
    assert (opened["name"], opened["currency"], opened["manager"]) == (
        *("Acme", "EUR"),
        str(manager.user),
    )
    at = f"{TENANTS}/{tenant}"
    sales = told(manager.post(f"{at}/departments", {"name": "Sales", "monthly_cap": 500.5}))
    assert (sales["tenant_id"], sales["monthly_cap"]) == (tenant, "500.5")
    department = f"{at}/departments/{sales['department_id']}"
    assert told(manager.post(department, {"no_cap": True}))["monthly_cap"] is None
    assert told(manager.post(department, {"monthly_cap": "7"}))["name"] == "Sales"

    made = told(
        manager.post(
            f"{at}/members",
            {
                "account": str(member),
                "display_name": "Ann",
                "department_id": sales["department_id"],
            },
        )
    )
    assert (made["user_id"], made["role"]) == (str(member), "employee")
    lead = told(manager.post(f"{at}/members/{member}", {"role": "tenant_lead"}))
    assert (lead["role"], lead["display_name"]) == ("tenant_lead", "Ann")

    mug = told(manager.post(f"{at}/rewards", {"name": "Mug", "points_cost": 99.5, "stock": 3}))
    assert (mug["points_cost"], mug["stock"], mug["is_active"]) == ("99.5", 3, True)
    gone = told(manager.post(f"{at}/rewards/{mug['reward_id']}", {"is_active": False}))
    assert (gone["name"], gone["is_active"], gone["stock"]) == ("Mug", False, 3)

    # Whoever did it is written down, with the request in which they did.
    rows = world.rows(
        "select actor, action from audit_log where action = any (%s) and request_id is not null"
        " order by audit_id",
        (["tenant.create", "department.set", "member.set", "reward.set"],),
    )
    by = str(manager.user)
    assert [(row["actor"], row["action"]) for row in rows] == [
        (f"{admin.user}@example.com", "tenant.create"),
        *[(by, "department.set")] * 3,
        *[(by, "member.set")] * 2,
        *[(by, "reward.set")] * 2,
    ]


def test_an_id_of_ones_own_makes_a_retry_the_same_company(
    world: World, admin: Client, stack: Stack
) -> None:
    body = {"name": "Acme", "tenant_id": str(uuid4())}
    answers = [admin.post(TENANTS, body) for _ in range(2)]
    assert told(answers[0]) == told(answers[1])
    assert answers[1].headers["idempotent-replayed"] == "true"
    again = service(stack).post(TENANTS, {**body, "name": "Other"})
    assert said_no(again) == (409, "nonce_reused", "$.tenant_id")
    assert world.count("tenants") == 1
    # Without one, every request opens another.
    ids = {told(admin.post(TENANTS, {"name": "Acme"}))["tenant_id"] for _ in range(2)}
    assert (len(ids), world.count("tenants")) == (2, 3)


def test_an_email_address_names_a_member_too(shop: Shop, manager: Client, world: World) -> None:
    user = uuid4()
    world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'ann@example.org')", (user,)
    )
    at = f"{TENANTS}/{shop.tenant}/members"
    assert told(manager.post(f"{at}/ann%40example.org", {}))["user_id"] == str(user)
    # A manager of one company need not name it.
    body = {"account": "ann@example.org", "role": "manager"}
    assert told(manager.post("/functions/v1/tenants/set-member", body))["role"] == "manager"
    assert said_no(manager.post(f"{at}/nobody%40example.org", {}))[:2] == (404, "user_not_found")


def test_who_may_set_a_company_up(stack: Stack, shop: Shop, admin: Client) -> None:
    at = f"{TENANTS}/{shop.tenant}"
    asked = {
        f"{at}/members": {"account": str(uuid4())},
        f"{at}/departments": {"name": "Sales"},
        f"{at}/rewards": {"name": "Mug", "points_cost": 1},
    }
    other = Shop.open(shop.company)
    hr = Client(stack, shop.member(role="hr_admin"))
    for path, body in asked.items():
        for user in (shop.member(), shop.member(role="tenant_lead"), other.manager, uuid4()):
            assert said_no(Client(stack, user).post(path, body))[:2] == (403, "forbidden")
        for index, who in enumerate((hr, admin, service(stack))):
            named = {"name": f"{body['name']} {index}"} if "name" in body else {}
            assert told(who.post(path, {**body, **named}))["tenant_id"] == str(shop.tenant)
    for who in (hr, Client(stack, shop.manager)):
        assert said_no(who.post(TENANTS, {"name": "Mine"}))[:2] == (403, "forbidden")
    # What a user is does not depend on what they say of themselves.
    role = {"account": str(hr.user), "role": "tenant_manager"}
    assert said_no(hr.post(f"{at}/members", role))[:2] == (403, "own_event")
    boss = {"account": str(uuid4()), "role": "tenant_manager"}
    assert said_no(hr.post(f"{at}/members", boss))[:2] == (403, "forbidden")


@pytest.mark.parametrize(
    ("path", "body", "code", "at"),
    [
        ("", {"name": ""}, "invalid_body", "$.name"),
        ("", {"name": " "}, "invalid_body", "$.name"),
        ("", {"name": "A", "currency": "eur"}, "invalid_body", "$.currency"),
        ("/{}/members", {"account": "{}", "role": "boss"}, "invalid_body", "$.role"),
        ("/{}/members", {}, "invalid_body", "$.account"),
        ("/x/members", {"account": "{}"}, "invalid_body", "$.tenant_id"),
        ("/{}/departments", {"name": " "}, "invalid_body", "$.name"),
        ("/{}/departments", {"name": "A", "monthly_cap": -1}, "invalid_amount", "$.monthly_cap"),
        ("/{}/rewards", {"name": "A", "points_cost": 0}, "invalid_amount", "$.points_cost"),
        ("/{}/rewards", {"name": "A"}, "invalid_body", "$.points_cost"),
        ("/{}/rewards", {"name": "A", "points_cost": 1, "stock": -1}, "invalid_body", "$.stock"),
    ],
)
def test_what_is_wrong_is_said_of_its_field(
    shop: Shop, admin: Client, world: World, path: str, body: dict[str, Any], code: str, at: str
) -> None:
    before = world.count("audit_log")
    filled = {name: str(uuid4()) if text == "{}" else text for name, text in body.items()}
    answer = admin.post(TENANTS + path.format(shop.tenant), filled)
    assert said_no(answer) == (400, code, at)
    assert world.count("audit_log") == before


def test_a_wallet_is_filled_once_under_a_key(
    stack: Stack, shop: Shop, admin: Client, world: World
) -> None:
    user, path = shop.member(), f"{POINTS}/credit-wallet"
    body = {
        "tenant_id": str(shop.tenant), "to_user_id": str(user), "amount": 250.5,
        "source": "hr_allocation", "reason": "Kept by the old system",
    }  # fmt: skip
    answers = [admin.post(path, body, idempotency_key="old-17") for _ in range(2)]
    assert told(answers[0]) == told(answers[1])
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert (answers[0].json()["new_wallet_balance"], shop.wallet(user)) == ("250.5", "250.5")
    for other in ({"amount": 1}, {"to_user_id": str(shop.member())}):
        again = admin.post(path, {**body, **other}, idempotency_key="old-17")
        assert said_no(again)[:2] == (409, "nonce_reused")
    # The same key is another company's own; and without one every request is new.
    rival = Shop.open(shop.company)
    theirs = {**body, "tenant_id": str(rival.tenant), "to_user_id": str(rival.member())}
    assert told(admin.post(path, theirs, idempotency_key="old-17"))["tenant_id"] == str(
        rival.tenant
    )
    for total in ("501", "751.5"):
        assert told(service(stack).post(path, body))["new_wallet_balance"] == total
    assert said_no(Client(stack, shop.manager).post(path, body))[:2] == (403, "forbidden")
    assert said_no(admin.post(path, {**body, "source": "gift"})) == (
        400,
        "invalid_body",
        "$.source",
    )
    assert said_no(admin.post(path, {**body, "amount": 0})) == (400, "invalid_amount", "$.amount")
    # From here on nothing more is counted than what was filled.
    assert world.count("wallet_ledger", "tenant_id = %s", shop.tenant) == 3


@pytest.mark.parametrize("path", ["adjust-pool", "adjust-pool/{}"])
def test_a_pool_is_put_right(stack: Stack, shop: Shop, admin: Client, path: str) -> None:
    shop.company.fund(shop.tenant, 100_000)
    body: dict[str, Any] = {"balance": 50000, "reason": "Ticket 4711"}
    if not path.endswith("}"):
        body["tenant_id"] = str(shop.tenant)
    at = f"{POINTS}/{path.format(shop.tenant)}"
    answers = [admin.post(at, body, idempotency_key="k") for _ in range(2)]
    assert told(answers[0]) == told(answers[1])
    assert (answers[0].json()["adjusted_by"], shop.company.pool(shop.tenant)) == ("-50000", "50000")
    assert shop.company.billing(shop.tenant) == [("ADJUSTMENT", "-50000")]
    same = told(service(stack).post(at, body))
    # It was that already; a request is remembered all the same.
    assert (same["adjusted_by"], same["new_allocation_balance"]) == ("0", "50000")
    assert shop.company.billing(shop.tenant)[1:] == [("ADJUSTMENT", "0")]
    assert said_no(Client(stack, shop.manager).post(at, body))[:2] == (403, "forbidden")
    for more, code, where in (
        ({"balance": -1}, "invalid_amount", "$.balance"),
        ({"reason": " "}, "reason_required", "$.reason"),
    ):
        assert said_no(admin.post(at, {**body, **more})) == (400, code, where)


def test_what_moves_points_is_switched_off_and_what_sets_up_is_not(
    database: Database, tmp_path: Path, shop: Shop
) -> None:
    off = {"POINTS_ALLOCATION_ENABLED": "false"}
    with running(database, tmp_path, with_postgrest=False, **off) as stack:
        program = service(stack)
        for path in ("adjust-pool", "credit-wallet"):
            assert program.post(f"{POINTS}/{path}", {}).status_code == 503
        said = told(program.post(f"{TENANTS}/{shop.tenant}/departments", {"name": "Sales"}))
        assert UUID(said["department_id"])

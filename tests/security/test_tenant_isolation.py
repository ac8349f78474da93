"""What is one company's is nobody else's: over HTTP at every address, and past it, in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from tallybook.schema import ROOT
from tallybook.server import find_functions
from tests.conftest import Database
from tests.gateway.client import Client
from tests.stack import Stack, running
from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import Connection, World

POINTS = "/api/v1/points"
TENANTS = "/api/v1/tenants"
FOLDERS = ("allocations/", "recognitions/", "rewards/", "points-ledger/", "tenants/")
Row = dict[str, Any]


@dataclass(frozen=True)
class Acme:
    """A company in which something of everything has happened."""

    shop: Shop
    lead: UUID
    employee: UUID
    colleague: UUID
    gone: UUID
    reward: UUID
    department: UUID
    allocation: str
    recognition: str
    redemption: str

    @property
    def tenant(self) -> UUID:
        return self.shop.tenant

    @property
    def company(self) -> Company:
        return self.shop.company


def found(company: Company) -> Acme:
    shop = Shop.open(company)
    tenant, reward = shop.tenant, shop.reward(1)
    department = company.department(tenant)
    allocation = company.allocate(tenant, 120)["allocation_log_id"]
    lead = shop.member(role="tenant_lead")
    employee, colleague, gone = (shop.member() for _ in range(3))
    company.delegate(shop.manager, lead, 10)

    def give(giver: UUID, *to: UUID, **more: Any) -> str:
        asked = {"user_id": giver, "recipients": [*to], "points": 5, "message": "Thanks", **more}
        return str(company.call("give_recognition", **asked)["recognition_id"])

    recognition = give(shop.manager, employee, colleague, gone)
    give(lead, colleague, visibility="private")
    give(employee, colleague, visibility="private", points=1)
    # The lead and the colleague share a department.
    company.world.operator.execute(
        "update tenant_members set department_id = %s where user_id = any (%s)",
        (department, [lead, colleague]),
    )
    give(lead, gone, visibility="department")
    withdrawn = shop.reward(2, name="Cap")
    company.call("set_reward", user_id=shop.manager, reward_id=withdrawn, is_active=False)
    redemptions = [shop.redeem(who, reward) for who in (employee, colleague, gone)]
    company.world.operator.execute(
        "update tenant_members set is_active = false where user_id = %s", (gone,)
    )
    return Acme(
        *(shop, lead, employee, colleague, gone, reward, department, allocation, recognition),
        redemption=redemptions[0]["redemption_id"],
    )


@pytest.fixture
def acme(world: World) -> Acme:
    return found(Company(world))


@pytest.fixture
def rival(acme: Acme) -> Acme:
    return found(acme.company)


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


# Over HTTP


@dataclass(frozen=True)
class Address:
    """What is asked where, and whose it is: the platform's, the managers', or every member's."""

    method: str
    path: str
    whose: str
    body: Callable[[Acme], Row] = lambda acme: {}
    empty: Row | None = None  # how a manager of nothing yet is answered; null: with 404

    def asked(self, client: Client, acme: Acme, **named: Any) -> httpx.Response:
        sent = {name: str(value) for name, value in {**self.body(acme), **named}.items()}
        return httpx.request(
            self.method,
            client.stack.url
            + self.path.format(tenant_id=acme.tenant, recognition_id=acme.recognition),
            headers=client.credentials,
            timeout=20,
            **({"params": sent} if self.method == "GET" else {"json": sent}),  # type: ignore[arg-type]
        )


def of_tenant(acme: Acme) -> Row:
    return {"tenant_id": acme.tenant, "amount": 1, "reason": "Mine"}


SETTINGS: dict[str, Callable[[Acme], Row]] = {
    "member": lambda acme: {"account": acme.colleague, "department_id": acme.department},
    "department": lambda acme: {"department_id": acme.department, "name": "Mine"},
    "reward": lambda acme: {"reward_id": acme.reward, "name": "Mine"},
}
ADDRESSES = {
    "allocations/to-tenant": Address(
        "POST",
        f"{POINTS}/allocate-to-tenant",
        "platform",
        lambda acme: {"tenant_id": acme.tenant, "amount": 1},
    ),
    "allocations/clawback": Address("POST", f"{POINTS}/clawback", "platform", of_tenant),
    "allocations/clawback by its path": Address(
        "POST", f"{POINTS}/clawback/{{tenant_id}}", "platform", lambda acme: {"reason": "Mine"}
    ),
    "allocations/reverse": Address(
        "POST",
        f"{POINTS}/reverse-allocation",
        "platform",
        lambda acme: {**of_tenant(acme), "allocation_id": acme.allocation},
    ),
    "allocations/adjust": Address(
        "POST",
        f"{POINTS}/adjust-pool",
        "platform",
        lambda acme: {"tenant_id": acme.tenant, "balance": 1, "reason": "Mine"},
    ),
    "allocations/adjust by its path": Address(
        "POST",
        f"{POINTS}/adjust-pool/{{tenant_id}}",
        "platform",
        lambda acme: {"balance": 1, "reason": "Mine"},
    ),
    "allocations/credit-wallet": Address(
        "POST",
        f"{POINTS}/credit-wallet",
        "platform",
        lambda acme: {**of_tenant(acme), "to_user_id": acme.colleague, "source": "adjustment"},
    ),
    "allocations/delegate": Address(
        "POST",
        f"{POINTS}/delegate-to-lead",
        "managers",
        lambda acme: {"lead_user_id": acme.lead, "amount": 1},
    ),
    "allocations/recall": Address(
        "POST",
        f"{POINTS}/recall-from-lead",
        "managers",
        lambda acme: {"lead_user_id": acme.lead},
    ),
    "allocations/award": Address(
        "POST",
        f"{POINTS}/award-to-user",
        "managers",
        lambda acme: {"to_user_id": acme.colleague, "amount": 1, "recognition_message": "x"},
    ),
    "allocations/stats": Address(
        "GET",
        f"{POINTS}/tenant-allocation-stats",
        "members",
        empty={"points_allocation_balance": "0", "wallet_balance": "0"},
    ),
    "recognitions/give": Address(
        "POST",
        "/api/recognitions",
        "members",
        lambda acme: {"to_user_id": acme.colleague, "points": 1, "message": "x"},
    ),
    "recognitions/list": Address(
        "GET", "/api/recognitions", "members", empty={"recognitions": [], "next_cursor": None}
    ),
    "recognitions/revoke": Address(
        "POST",
        "/api/recognitions/{recognition_id}/revoke",
        "managers",
        lambda acme: {"reason": "Mine"},
    ),
    "rewards/catalogue": Address("GET", f"{POINTS}/rewards", "members", empty={"rewards": []}),
    "rewards/wallet": Address(
        "GET", f"{POINTS}/wallet", "members", empty={"balance": "0", "entries": []}
    ),
    "rewards/redeem": Address(
        "POST", f"{POINTS}/rewards/redeem", "members", lambda acme: {"reward_id": acme.reward}
    ),
    "rewards/refund": Address(
        "POST",
        f"{POINTS}/rewards/refund",
        "managers",
        lambda acme: {"redemption_id": acme.redemption, "reason": "Mine"},
    ),
    "tenants/members": Address("GET", f"{TENANTS}/members", "members", empty={"next_cursor": None}),
    "tenants/create": Address("POST", TENANTS, "platform", lambda acme: {"name": "Mine"}),
    **{
        f"tenants/set-{what}": Address(
            "POST", f"/functions/v1/tenants/set-{what}", "managers", body
        )
        for what, body in SETTINGS.items()
    },
    **{
        f"tenants/set-{what} by its path": Address(
            "POST", f"{TENANTS}/{{tenant_id}}/{what}s", "platform", body
        )
        for what, body in SETTINGS.items()
    },
    **{
        f"points-ledger/{log}": Address(
            "GET",
            f"{POINTS}/ledger/{log}",
            "managers",
            empty={"items": [], "next_cursor": None},
        )
        for log in ("allocation-logs", "platform-billing-logs", "wallet-ledger")
    },
    "points-ledger/stats": Address(
        "GET", f"{POINTS}/ledger/stats", "managers", empty={"tenants": 1}
    ),
}
IN_BULK = "allocations/bulk"


def test_no_address_is_forgotten() -> None:
    routes = {handler.route.slug for handler in find_functions(ROOT)}  # type: ignore[attr-defined]
    ours = {slug for slug in routes if slug.startswith(FOLDERS)}
    assert ours == {slug.partition(" ")[0] for slug in ADDRESSES} | {IN_BULK}


def everything(world: World) -> list[Row]:
    """What is there, as far as anybody can change it: accounts, and rows of all tables."""
    counted = " union all ".join(
        f"select '{table}' as what, count(*)::text as how_many from {table}" for table in TO_SEE
    )
    return world.rows(
        f"{counted} union all select book_id || account, balance::text from ledger.accounts"
        " order by 1, 2"
    )


def named(address: Address, acme: Acme) -> list[Row]:
    """With the tenant named, and without, where it may be either."""
    if address.whose == "platform":
        return [{}]
    return [{"tenant_id": acme.tenant}, {}]


def test_who_is_no_member_any_more_or_never_was_is_refused_everywhere(
    stack: Stack, world: World, acme: Acme
) -> None:
    before = everything(world)
    for somebody in (Client(stack, acme.gone), Client(stack, uuid4())):
        for slug, address in ADDRESSES.items():
            for more in named(address, acme):
                said = address.asked(somebody, acme, **more)
                assert (said.status_code, said.json()["code"]) == (403, "forbidden"), slug
    assert everything(world) == before


def test_an_employee_has_what_is_the_members_and_nothing_of_the_managers(
    stack: Stack, world: World, acme: Acme
) -> None:
    before = everything(world)
    employee = Client(stack, acme.employee)
    for slug, address in ADDRESSES.items():
        if address.whose == "members":
            continue
        for more in named(address, acme):
            said = address.asked(employee, acme, **more)
            assert (said.status_code, said.json()["code"]) == (403, "forbidden"), slug
    assert everything(world) == before
    for slug, address in ADDRESSES.items():
        if address.whose == "members":
            assert address.asked(employee, acme).status_code == 200, slug


def test_a_manager_of_another_company_is_refused_or_finds_nothing(
    stack: Stack, world: World, acme: Acme
) -> None:
    new = Client(stack, Shop.open(acme.company).manager)
    before = everything(world)
    for slug, address in ADDRESSES.items():
        at_theirs, *at_home = (address.asked(new, acme, **more) for more in named(address, acme))
        assert (at_theirs.status_code, at_theirs.json()["code"]) == (403, "forbidden"), slug
        for said in at_home:
            # What they do not name is of their own company, which knows nothing of it.
            if address.empty is None:
                assert said.status_code == 404, slug
                continue
            assert said.status_code == 200, slug
            assert address.empty.items() <= said.json().items(), slug
            assert str(acme.tenant) not in said.text, slug
    assert everything(world) == before


def test_nobody_but_the_platform_allocates_in_bulk(stack: Stack, acme: Acme) -> None:
    rival = Shop.open(acme.company)
    before = everything(acme.company.world)
    for user in (acme.shop.manager, rival.manager, acme.employee, acme.gone, uuid4()):
        body = {"tenant_ids": [str(acme.tenant), str(rival.tenant)], "amount": 1}
        said = Client(stack, user).post(f"{POINTS}/bulk-allocate", body)
        assert (said.status_code, said.json()["code"]) == (403, "forbidden")
    assert everything(acme.company.world) == before


@pytest.mark.parametrize("slug", ["rewards/catalogue", "rewards/wallet", "rewards/redeem"])
def test_nobody_acts_in_a_colleague_s_name(stack: Stack, acme: Acme, slug: str) -> None:
    before = everything(acme.company.world)
    for user in (acme.shop.manager, acme.colleague):
        said = ADDRESSES[slug].asked(Client(stack, user), acme, user_id=acme.employee)
        assert (said.status_code, said.json()["code"]) == (403, "forbidden")
    assert everything(acme.company.world) == before


# In SQL, as PostgREST asks

# Whose a row is, beside the company's; of the others everything is the company's alone.
OWNER = {
    "tenant_members": "user_id",
    "wallets": "user_id",
    "wallet_ledger": "user_id",
    "recognitions": "from_user_id",
    "recognition_groups": "user_id",
    "reward_redemptions": "user_id",
    "lead_delegations": "lead_user_id",
}
SHARED = {"tenants", "departments", "rewards"}
MANAGERS_ONLY = {"allocation_logs", "platform_billing_logs", "tenant_alerts"}
TABLES = sorted({*OWNER, *SHARED, *MANAGERS_ONLY})
TO_SEE = [*TABLES, "recognition_recipients"]


def visible(
    table: str,
    row: Row,
    there: dict[str, list[Row]],
    user: UUID,
    member: set[UUID],
    managed: set[UUID],
) -> bool:
    """What policies/60_tenants.sql says, once more."""
    tenant = UUID(row["id" if table == "tenants" else "tenant_id"])
    if table == "recognition_recipients":
        # One by themselves stands in the recognition, and is seen with it.
        of = next(each for each in there["recognitions"] if each["id"] == row["recognition_id"])
        if of["to_user_id"] is not None:
            return visible("recognitions", of, there, user, member, managed)
        table = "recognition_groups"
    own = table in OWNER and row[OWNER[table]] == str(user)
    if table == "tenant_members":
        return own
    if tenant in managed:
        return True
    if table == "rewards":
        own = row["is_active"]
    if table == "recognitions":
        public = row["visibility"] == "public" or (
            row["visibility"] == "department" and row["department_id"] in departments(there, user)
        )
        given = any(
            (each["recognition_id"], each["user_id"]) == (row["id"], str(user))
            for each in there["recognition_recipients"]
        )
        own = own or given or (public and row["status"] == "active")
    return tenant in member and (own or table in SHARED - {"rewards"})


def departments(there: dict[str, list[Row]], user: UUID) -> set[str]:
    """In which somebody works."""
    return {
        each["department_id"]
        for each in there["tenant_members"]
        if each["user_id"] == str(user) and each["is_active"] and each["department_id"]
    }


def rows_of(world: World) -> dict[str, list[Row]]:
    """Every table's rows, as JSON has them, in one order."""
    return {
        table: [
            row["content"]
            for row in world.rows(f"select to_jsonb(x) as content from {table} as x order by 1")
        ]
        for table in TO_SEE
    }


def seen(world: World, role: str, user: UUID | None = None) -> dict[str, list[Row]]:
    """All that a client sees in every table."""
    with world.admin.transaction(force_rollback=True):
        become(world.admin, role, user)
        return rows_of(world)


def become(connection: Connection, role: str, user: UUID | None) -> None:
    connection.execute(f"set local role {role}")
    if user is not None:
        claims = f'{{"sub": "{user}", "role": "{role}"}}'
        connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))


def assert_sees(world: World, user: UUID, member: set[UUID], managed: set[UUID]) -> None:
    there = rows_of(world)
    expected = {
        table: [row for row in rows if visible(table, row, there, user, member, managed)]
        for table, rows in there.items()
    }
    assert seen(world, "authenticated", user) == expected


def test_no_table_is_forgotten(world: World) -> None:
    rows = world.rows(
        "select c.relname::text as name"
        " from pg_class as c join pg_attribute as a on a.attrelid = c.oid"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"
        "   and a.attname = 'tenant_id'"
    )
    assert {row["name"] for row in rows} | {"tenants"} == set(TABLES)
    assert world.count("pg_class", "relname = any (%s) and relforcerowsecurity", TABLES) == len(
        TABLES
    )


def test_in_every_table_there_is_something_to_see(world: World, acme: Acme, rival: Acme) -> None:
    for table in TO_SEE:
        key = "id" if table == "tenants" else "tenant_id"
        tenants = {row[key] for row in world.rows(f"select {key} from {table}")}
        assert tenants == {acme.tenant, rival.tenant}, table


def test_a_manager_sees_their_own_company(world: World, acme: Acme, rival: Acme) -> None:
    assert_sees(world, acme.shop.manager, {acme.tenant}, {acme.tenant})
    hr = acme.shop.member(role="hr_admin")
    assert_sees(world, hr, {acme.tenant}, {acme.tenant})


def test_a_member_sees_what_is_shared_and_what_is_theirs(
    world: World, acme: Acme, rival: Acme
) -> None:
    for user in (acme.employee, acme.colleague, acme.lead):
        assert_sees(world, user, {acme.tenant}, set())
    rows = seen(world, "authenticated", acme.employee)
    assert [row["user_id"] for row in rows["wallets"]] == [str(acme.employee)]
    assert [row["id"] for row in rows["tenants"]] == [str(acme.tenant)]
    assert {row["visibility"] for row in rows["recognitions"]} == {"public", "private"}
    assert not any(rows[table] for table in MANAGERS_ONLY)


def test_a_member_of_two_companies_is_in_each_what_they_are_there(
    world: World, acme: Acme, rival: Acme
) -> None:
    acme.company.member(rival.tenant, "tenant_manager", user_id=acme.employee)
    assert_sees(world, acme.employee, {acme.tenant, rival.tenant}, {rival.tenant})


def test_who_is_no_member_any_more_sees_that_and_nothing_else(
    world: World, acme: Acme, rival: Acme
) -> None:
    assert_sees(world, acme.gone, set(), set())
    rows = seen(world, "authenticated", acme.gone)
    assert [table for table in TABLES if rows[table]] == ["tenant_members"]


def test_a_company_that_is_not_active_shares_nothing(world: World, acme: Acme, rival: Acme) -> None:
    world.operator.execute("update tenants set is_active = false where id = %s", (acme.tenant,))
    for user in (acme.shop.manager, acme.employee, acme.lead):
        assert_sees(world, user, set(), set())
    assert_sees(world, rival.shop.manager, {rival.tenant}, {rival.tenant})


def test_who_was_never_a_member_sees_nothing(world: World, acme: Acme, rival: Acme) -> None:
    for user in (uuid4(), acme.company.admin(), None):
        assert not any(seen(world, "authenticated", user).values())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        seen(world, "anon", acme.shop.manager)


def test_the_service_sees_every_company(world: World, acme: Acme, rival: Acme) -> None:
    assert seen(world, "service_role") == rows_of(world)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_no_client_writes_a_companys_tables(world: World, acme: Acme, role: str) -> None:
    """Not even the manager of it, and no row that they see."""
    with world.admin.transaction(force_rollback=True):
        become(world.admin, role, acme.shop.manager)
        columns = dict.fromkeys(TABLES, "tenant_id")
        for table, column in {
            **columns,
            "tenants": "name",
            "allocation_limits": "updated_at",
        }.items():
            for statement in (
                "insert into {} default values",
                f"update {{}} set {column} = default",
                "delete from {}",
                "truncate {}",
            ):
                with pytest.raises(psycopg.Error) as refused, world.admin.transaction():
                    world.admin.execute(sql.SQL(statement).format(sql.Identifier(table)))
                assert refused.value.sqlstate == "42501", (table, statement)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@pytest.mark.parametrize(
    "statement",
    [
        "select * from internal.move_tenant_points('{{}}')",
        "select internal.membership('{user}', '{tenant}')",
        "select internal.managing('{user}', '{tenant}')",
        "select internal.act_for(array['{tenant}']::uuid[])",
        "select internal.allocate_to_tenants(null, '[]', null, null, null, null, null)",
    ],
)
def test_no_client_moves_points_past_the_procedures(
    world: World, acme: Acme, role: str, statement: str
) -> None:
    with world.admin.transaction(force_rollback=True):
        become(world.admin, role, acme.shop.manager)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.admin.execute(statement.format(user=acme.shop.manager, tenant=acme.tenant))


def test_subjects_that_a_client_makes_up_open_nothing(
    world: World, acme: Acme, rival: Acme
) -> None:
    """The setting that procedures act by means nothing to a client's policies."""
    with world.admin.transaction(force_rollback=True):
        become(world.admin, "authenticated", acme.employee)
        subjects = f"{{{rival.tenant}}}"
        world.admin.execute("select set_config('tallybook.subjects', %s, true)", (subjects,))
        assert world.count("tenants", "id = %s", rival.tenant) == 0
        assert world.count("wallets", "tenant_id = %s", rival.tenant) == 0

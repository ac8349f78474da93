"""What a procedure shows somebody and what they read directly, under row-level security, is one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import World, code_of

Ids = set[str]


@dataclass(frozen=True)
class House:
    """A company with two departments, in which people of every rank gave in every way."""

    shop: Shop
    people: dict[str, UUID]

    @property
    def tenant(self) -> UUID:
        return self.shop.tenant


def built(company: Company) -> House:
    shop = Shop.open(company, wallets_permanent=False)
    tenant = shop.tenant
    company.fund(tenant, 10_000)
    sales, it = (company.department(tenant, name) for name in ("Sales", "IT"))
    people = {
        "manager": shop.manager,
        "hr": company.member(tenant, "hr_admin", department_id=it),
        "lead": company.member(tenant, "tenant_lead", department_id=sales),
        "seller": company.member(tenant, department_id=sales),
        "other seller": company.member(tenant, department_id=sales),
        "engineer": company.member(tenant, department_id=it),
        "free": company.member(tenant),
        "former": company.member(tenant, department_id=sales),
    }
    everybody = list(people.values())
    for place, giver in enumerate(everybody):
        for visibility in ("public", "department", "private"):
            for revoked in (False, True):
                # Each time somebody else; every third one is a group.
                to = [each for each in everybody if each != giver][place % 3 :: 3]
                given = company.call(
                    "give_recognition", user_id=giver, recipients=to, message="Thanks",
                    visibility=visibility,
                )  # fmt: skip
                if revoked:
                    company.call(
                        "revoke_recognition", user_id=shop.manager, reason="No",
                        recognition_id=given["recognition_id"],
                    )  # fmt: skip
    for place, user in enumerate(everybody):
        company.enrich(tenant, user, 10 + place)
    mug, cap = shop.reward(1), shop.reward(2, name="Cap")
    for user in everybody:
        shop.redeem(user, mug)
    company.call("set_reward", user_id=shop.manager, reward_id=cap, is_active=False)
    company.call("set_member", user_id=shop.manager, account=str(people["former"]), is_active=False)
    return House(shop, people)


@pytest.fixture
def houses(company: Company) -> tuple[House, House]:
    return built(company), built(company)


@pytest.fixture
def company(world: World) -> Company:
    return Company(world)


def read(world: World, user: UUID, query: str, tenant: UUID) -> list[dict[str, Any]]:
    """What a select answers that somebody sends through PostgREST."""
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("set local role authenticated")
        claims = f'{{"sub": "{user}", "role": "authenticated"}}'
        world.admin.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        return world.admin.execute(query, (tenant,)).fetchall()  # type: ignore[call-overload,no-any-return]


def listed(company: Company, user: UUID, tenant: UUID, scope: str = "all") -> Ids | None:
    """All that list_recognitions shows, page by page; None: it refuses."""
    found: Ids = set()
    cursor = None
    while True:
        asked = {"user_id": user, "tenant_id": tenant, "scope": scope, "limit": 7, "cursor": cursor}
        page = shown(company, "list_recognitions", asked)
        if page is None:
            return None
        found |= {row["recognition_id"] for row in page["recognitions"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def shown(company: Company, procedure: str, asked: dict[str, Any]) -> Any:
    try:
        return company.call(procedure, **asked)
    except psycopg.Error as error:
        assert code_of(error) == "forbidden"
        return None


def compare(company: Company, user: UUID, tenant: UUID) -> tuple[int, int, int]:
    """That everything agrees; how many recognitions, entries and rewards there are to see."""
    world, asked = company.world, {"user_id": user, "tenant_id": tenant}

    def ids(query: str) -> Ids:
        return {str(row["id"]) for row in read(world, user, query, tenant)}

    recognitions = ids("select id from recognitions where tenant_id = %s")
    assert (listed(company, user, tenant) or set()) == recognitions
    mine = f"from_user_id = '{user}'"
    given = ids(f"select id from recognitions where tenant_id = %s and {mine}")
    assert (listed(company, user, tenant, "given") or set()) == given
    own = f"user_id = '{user}'"
    got = ids(
        f"select recognition_id as id from recognition_recipients where tenant_id = %s and {own}"
    )
    assert (listed(company, user, tenant, "received") or set()) == got <= recognitions

    wallet = shown(company, "wallet", asked)
    (balances, entries) = (
        read(world, user, f"select {what} where tenant_id = %s and {own}", tenant)
        for what in ("balance from wallets", "id from wallet_ledger")
    )
    if wallet is None:
        assert (balances, entries) == ([], [])
    else:
        # Who never had anything has no row.
        assert sum(each["balance"] for each in balances) == Decimal(wallet["balance"])
        assert {str(each["id"]) for each in entries} == {e["id"] for e in wallet["entries"]}

    catalogue = shown(company, "rewards_catalogue", asked)
    rewards = ids("select id from rewards where tenant_id = %s")
    assert {each["reward_id"] for each in (catalogue or {"rewards": []})["rewards"]} == rewards
    return len(recognitions), len(entries), len(rewards)


def test_everybody_reads_what_they_are_shown(company: Company, houses: tuple[House, House]) -> None:
    counts = {}
    for house, other in (houses, houses[::-1]):
        for name, user in house.people.items():
            counts[name] = compare(company, user, house.tenant)
            assert compare(company, user, other.tenant) == (0, 0, 0), name
    # And what they are shown is what it should be: 8 people gave 6 each, every second is revoked.
    assert counts["manager"] == counts["hr"] == (48, 2, 2)
    assert counts["former"] == (0, 0, 0)
    # What is public, what they gave, and what they got; and a seller what sellers gave to sellers.
    public = 8
    for name in ("lead", "seller", "other seller", "engineer", "free"):
        assert public + 5 <= counts[name][0] < 48, name
        assert counts[name][1:] == (2, 1), name
    assert counts["seller"][0] > counts["free"][0]


def test_a_private_recognition_is_read_by_who_gave_and_who_got_it(company: Company) -> None:
    shop = Shop.open(company)
    giver, taker, colleague = (shop.member() for _ in range(3))
    asked = {"user_id": giver, "recipients": [taker], "message": "Thanks"}
    given = company.call("give_recognition", **asked, visibility="private")
    query = "select id from recognitions where tenant_id = %s"
    for user, sees in ((giver, True), (taker, True), (shop.manager, True), (colleague, False)):
        rows = read(company.world, user, query, shop.tenant)
        assert [str(row["id"]) for row in rows] == [given["recognition_id"]] * sees


def test_what_is_shown_to_a_department_is_read_by_it(company: Company) -> None:
    shop = Shop.open(company)
    sales, it = (company.department(shop.tenant, name) for name in ("Sales", "IT"))
    giver, seller = (company.member(shop.tenant, department_id=sales) for _ in range(2))
    engineer, free = company.member(shop.tenant, department_id=it), shop.member()
    # In another company somebody may be what they are not here.
    company.member(Shop.open(company).tenant, "tenant_manager", user_id=engineer)
    taker = company.member(shop.tenant, department_id=it)
    asked = {"user_id": giver, "recipients": [taker], "message": "Thanks"}
    company.call("give_recognition", **asked, visibility="department")
    query = "select id from recognitions where tenant_id = %s"
    who = {giver: 1, seller: 1, taker: 1, shop.manager: 1, engineer: 0, free: 0}
    for user, sees in who.items():
        assert len(read(company.world, user, query, shop.tenant)) == sees
    # Who goes to another department sees what that one is shown.
    company.call(
        "set_member", user_id=shop.manager, account=str(seller), department_id=it,
        tenant_id=shop.tenant,
    )  # fmt: skip
    assert read(company.world, seller, query, shop.tenant) == []


def test_in_a_closed_company_nobody_reads_anything(
    company: Company, houses: tuple[House, House]
) -> None:
    house, other = houses
    company.world.operator.execute(
        "update tenants set is_active = false where id = %s", (house.tenant,)
    )
    for user in house.people.values():
        assert compare(company, user, house.tenant) == (0, 0, 0)
    assert compare(company, other.people["seller"], other.tenant)[0] > 0


def test_who_is_in_both_is_in_each_what_they_are_there(
    company: Company, houses: tuple[House, House]
) -> None:
    first, second = houses
    user = first.people["seller"]
    before = compare(company, user, first.tenant)
    company.member(second.tenant, "hr_admin", user_id=user)
    assert compare(company, user, first.tenant) == before
    assert compare(company, user, second.tenant) == (48, 0, 2)


def test_a_stranger_reads_nothing(company: Company, houses: tuple[House, House]) -> None:
    for user in (uuid4(), company.admin()):
        assert compare(company, user, houses[0].tenant) == (0, 0, 0)

"""Who is in a company, page by page: for those who want to recognize somebody, and for managers."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import refused


def people(company: Company, user: UUID | None, **request: Any) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = company.call("list_members", user_id=user, **request)["members"]
    return listed


def ids(company: Company, user: UUID | None, **request: Any) -> set[str]:
    return {each["user_id"] for each in people(company, user, **request)}


def test_a_member_sees_colleagues(company: Company) -> None:
    shop = Shop.open(company)
    lead, gone = shop.member(role="tenant_lead"), shop.member()
    member = shop.member(50)
    company.call("set_member", user_id=shop.manager, account=str(gone), is_active=False)
    listed = people(company, member)
    assert {each["user_id"] for each in listed} == {str(shop.manager), str(lead), str(member)}
    assert {(each["role"], each["is_active"]) for each in listed} == {
        ("tenant_manager", True),
        ("tenant_lead", True),
        ("employee", True),
    }
    assert {*listed[0]} == {
        *("tenant_id", "user_id", "role", "department_id", "display_name", "is_active")
    }


def test_who_manages_sees_what_people_have_and_who_left(company: Company, admin: UUID) -> None:
    shop = Shop.open(company)
    company.fund(shop.tenant, 100)
    lead, gone, member = shop.member(role="tenant_lead"), shop.member(), shop.member(50)
    company.call("delegate_to_lead", user_id=shop.manager, lead_user_id=lead, amount=30)
    company.call("set_member", user_id=shop.manager, account=str(gone), is_active=False)
    hr = shop.member(role="hr_admin")
    for user, named in ((shop.manager, {}), (hr, {}), (admin, 1), (None, 1)):
        request = {"tenant_id": shop.tenant} if named else {}
        listed = {each["user_id"]: each for each in people(company, user, **request)}
        assert listed.keys() == {str(each) for each in (shop.manager, lead, gone, member, hr)}
        assert listed[str(lead)]["lead_distribution_balance"] == "30"
        assert listed[str(member)]["wallet_balance"] == "50"
        assert listed[str(gone)]["wallet_balance"] == "0"
        assert listed[str(gone)]["is_active"] is False


def test_pages_lead_on_to_the_end_whoever_comes_and_goes(company: Company) -> None:
    shop = Shop.open(company)
    there = {shop.manager, *(shop.member() for _ in range(6))}
    cursor, found = None, []
    for size in (3, 3, 1):
        page = company.call("list_members", user_id=shop.manager, limit=3, cursor=cursor)
        assert len(page["members"]) == size
        found += [UUID(each["user_id"]) for each in page["members"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert (set(found), found) == (there, sorted(found))


def test_a_search_finds_part_of_a_name(company: Company) -> None:
    shop = Shop.open(company)
    named = {}
    for name in ("Ada Lovelace", "Grace Hopper", "100% Ada_"):
        user = shop.member()
        company.call("set_member", user_id=shop.manager, account=str(user), display_name=name)
        named[name] = str(user)
    assert ids(company, shop.manager, search="ada") == {named["Ada Lovelace"], named["100% Ada_"]}
    assert ids(company, shop.manager, search="%") == {named["100% Ada_"]}
    assert ids(company, shop.manager, search="Hopper") == {named["Grace Hopper"]}
    assert ids(company, shop.manager, search="nobody") == set()


def test_who_is_not_of_it_sees_nobody(company: Company, admin: UUID) -> None:
    shop, other = Shop.open(company), Shop.open(company)
    for user in (uuid4(), other.manager):
        with refused("forbidden", 403):
            people(company, user, tenant_id=shop.tenant)
    assert ids(company, other.manager) == {str(other.manager)}
    for user in (None, admin):
        with refused("tenant_not_found", 404):
            people(company, user, tenant_id=uuid4())
    with refused("invalid_body", 400, "tenant_id: "):
        people(company, None)
    with refused("forbidden", 403):
        people(company, admin)


@pytest.mark.parametrize(
    ("request_", "detail"),
    [({"limit": 0}, "limit: "), ({"limit": 501}, "limit: "), ({"cursor": "nonsense"}, "cursor: ")],
)
def test_what_cannot_be_a_page_is_refused(
    company: Company, request_: dict[str, Any], detail: str
) -> None:
    shop = Shop.open(company)
    with refused("invalid_body", 400, detail):
        people(company, shop.manager, **request_)

"""Who is a member, and as what: managers say it of others, and only within their tenant."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import refused


@pytest.fixture
def shop(company: Company) -> Shop:
    return Shop.open(company)


def set_member(shop: Shop, by: UUID | None, account: object, **more: Any) -> Any:
    """Take somebody in, or change what they are."""
    through = more.pop("through", None)
    said = {"user_id": by, "account": str(account), "tenant_id": shop.tenant, **more}
    return shop.company.call("set_member", through, **said)


def known(shop: Shop, email: str) -> UUID:
    """Somebody who has signed up."""
    user = uuid4()
    shop.company.world.admin.execute(
        "insert into auth.users (id, email) values (%s, %s)", (user, email)
    )
    return user


def test_a_manager_takes_somebody_in_and_changes_them(shop: Shop) -> None:
    user = known(shop, "ann@example.org")
    department = shop.company.department(shop.tenant)
    answer = set_member(
        shop, shop.manager, "Ann@example.org", display_name="Ann", department_id=department
    )
    assert answer == {
        "tenant_id": str(shop.tenant),
        "user_id": str(user),
        "role": "employee",
        "department_id": str(department),
        "display_name": "Ann",
        "is_active": True,
    }
    assert shop.company.call("wallet", user_id=user)["balance"] == "0"
    # What is not said stays.
    answer = set_member(shop, shop.manager, user, role="tenant_lead", reason="She leads")
    assert (answer["role"], answer["display_name"]) == ("tenant_lead", "Ann")
    assert answer["department_id"] == str(department)
    answer = set_member(shop, shop.manager, user, no_department=True)
    assert answer["department_id"] is None
    set_member(shop, shop.manager, user, is_active=False)
    with refused("forbidden", 403):
        shop.company.call("wallet", user_id=user)
    said = shop.company.world.rows(
        "select actor, reason, before -> 'role' as was, after -> 'role' as is from audit_log"
        " where action = 'member.set' and subject_id = %s order by audit_id",
        (str(user),),
    )
    assert [tuple(row.values()) for row in said] == [
        (str(shop.manager), None, None, "employee"),
        (str(shop.manager), "She leads", "employee", "tenant_lead"),
        (str(shop.manager), None, "tenant_lead", "tenant_lead"),
        (str(shop.manager), None, "tenant_lead", "tenant_lead"),
    ]


def test_nobody_raises_themselves(shop: Shop, admin: UUID) -> None:
    hr = shop.member(role="hr_admin")
    for user, role in ((shop.manager, "employee"), (hr, "tenant_manager"), (admin, "employee")):
        with refused("own_event", 403):
            set_member(shop, user, user, role=role)
    for role in ("tenant_lead", "dept_lead", "manager", "employee"):
        user = shop.member(role=role)
        for whom in (user, uuid4()):
            with refused("forbidden", 403):
                set_member(shop, user, whom, role="hr_admin")


def test_no_role_makes_an_administrator_of_the_platform(shop: Shop) -> None:
    for role in ("platform_admin", "administrator", "", "TENANT_MANAGER"):
        with refused("invalid_body", 400, "role: "):
            set_member(shop, shop.manager, uuid4(), role=role)
    assert shop.company.world.count("system_admins") == 0


def test_hr_makes_no_managers_and_changes_none(shop: Shop, admin: UUID) -> None:
    hr, user = shop.member(role="hr_admin"), shop.member()
    assert set_member(shop, hr, user, role="hr_admin")["role"] == "hr_admin"
    with refused("forbidden", 403):
        set_member(shop, hr, user, role="tenant_manager")
    with refused("forbidden", 403):
        set_member(shop, hr, uuid4(), role="tenant_manager")
    with refused("forbidden", 403):
        set_member(shop, hr, shop.manager, is_active=False)
    for by in (shop.manager, admin, None):
        other = uuid4()
        assert set_member(shop, by, other, role="tenant_manager")["role"] == "tenant_manager"
        assert set_member(shop, other, user, display_name="U")["display_name"] == "U"
    assert shop.company.world.count("tenant_members", "user_id = %s and is_active", shop.manager)


def test_a_manager_manages_one_tenant(shop: Shop) -> None:
    other, user = Shop.open(shop.company), uuid4()
    with refused("forbidden", 403):
        set_member(shop, other.manager, user)
    with refused("forbidden", 403):
        set_member(shop, other.manager, user, tenant_id=uuid4())
    foreign = shop.company.department(other.tenant)
    for department in (foreign, uuid4()):
        with refused("department_not_found", 404):
            set_member(shop, shop.manager, user, department_id=department)
    with refused("tenant_not_found", 404):
        set_member(shop, None, user, tenant_id=uuid4())
    with refused("invalid_body", 400, "tenant_id: "):
        set_member(shop, None, user, tenant_id=None)
    # Who manages several says which.
    shop.company.member(other.tenant, "hr_admin", user_id=shop.manager)
    with refused("invalid_body", 400, "tenant_id: "):
        set_member(shop, shop.manager, user, tenant_id=None)
    with refused("user_not_found", 404):
        set_member(shop, shop.manager, "nobody@example.org")
    assert shop.company.world.count("tenant_members") == 3


def test_a_former_manager_manages_nothing(shop: Shop) -> None:
    set_member(shop, None, shop.manager, is_active=False)
    with refused("forbidden", 403):
        set_member(shop, shop.manager, uuid4())


def test_two_who_take_somebody_in_at_once_make_one_member(shop: Shop) -> None:
    user = uuid4()
    calls = [
        lambda session, more=more: set_member(shop, shop.manager, user, through=session, **more)
        for more in [{"role": "manager"}, {"display_name": "Ann"}] * 8
    ]
    results = shop.company.world.at_once(calls)
    assert not [r for r in results if isinstance(r, psycopg.Error)]
    (row,) = shop.company.world.rows(
        "select role, display_name from tenant_members where user_id = %s", (user,)
    )
    assert row == {"role": "manager", "display_name": "Ann"}
    assert shop.company.world.count("audit_log", "action = 'member.set' and before is null") == 1


def test_who_is_being_made_a_manager_is_not_hrs_to_change(shop: Shop) -> None:
    hr, user = shop.member(role="hr_admin"), shop.member()
    manager = shop.company.world.session("tallybook_functions", autocommit=False)
    set_member(shop, shop.manager, user, role="tenant_manager", through=manager)
    with shop.company.world.in_background(
        lambda session: set_member(shop, hr, user, is_active=False, through=session),
        shop.company.world.session("tallybook_functions"),
    ) as done:
        manager.commit()
        with refused("forbidden", 403):
            done.result()
    assert shop.company.world.count("tenant_members", "user_id = %s and is_active", user) == 1


def test_a_manager_sets_departments_up(shop: Shop) -> None:
    def call(**said: Any) -> Any:
        return shop.company.call("set_department", **{"user_id": shop.manager, **said})

    made = call(name="Sales", monthly_cap=5000)
    department = made["department_id"]
    assert made == {
        "tenant_id": str(shop.tenant),
        "department_id": department,
        "name": "Sales",
        "monthly_cap": "5000",
    }
    assert call(department_id=department, name="Marketing")["monthly_cap"] == "5000"
    assert call(department_id=department, no_cap=True)["monthly_cap"] is None
    assert call(department_id=department, monthly_cap=0)["name"] == "Marketing"
    other = call(name="Sales")["department_id"]
    for said in ({"name": "Sales"}, {"name": "Sales", "department_id": department}):
        with refused("invalid_body", 400, "name: "):
            call(**said)
    with refused("invalid_body", 400, "name: "):
        call(monthly_cap=1)
    with refused("invalid_amount", 400, "monthly_cap: "):
        call(name="IT", monthly_cap=-1)
    with refused("invalid_body", 400, "monthly_cap: "):
        call(name="IT", monthly_cap=1, no_cap=True)
    with refused("department_not_found", 404):
        call(department_id=uuid4(), name="IT")
    with refused("department_not_found", 404):
        call(user_id=Shop.open(shop.company).manager, department_id=other, name="IT")
    with refused("forbidden", 403):
        call(user_id=shop.member(), name="IT")
    assert shop.company.world.count("audit_log", "action = 'department.set'") == 5


def test_an_administrator_opens_a_tenant(company: Company, admin: UUID) -> None:
    tenant, manager = uuid4(), uuid4()
    said = {"user_id": admin, "name": "Acme", "currency": "EUR", "tenant_id": tenant}
    answer = company.call("create_tenant", **said, manager_account=str(manager))
    assert answer == {
        "tenant_id": str(tenant),
        "name": "Acme",
        "currency": "EUR",
        "currency_label": "Points",
        "points_allocation_balance": "0",
        "manager": str(manager),
    }
    shop = Shop(company, tenant, manager)
    assert set_member(shop, manager, uuid4())["role"] == "employee"
    again = company.call("create_tenant", **said, manager_account=str(manager))
    assert again == {**answer, "replayed": True}
    with refused("nonce_reused", 409):
        company.call("create_tenant", **{**said, "name": "Other"})
    assert company.world.count("audit_log", "action = 'tenant.create'") == 1
    assert company.call("create_tenant", user_id=None, name="Acme")["tenant_id"] != str(tenant)


def test_who_opens_no_tenant(shop: Shop, admin: UUID) -> None:
    for user in (shop.manager, uuid4()):
        with refused("forbidden", 403):
            shop.company.call("create_tenant", user_id=user, name="Acme")
    for more, detail in (
        ({"name": " "}, "name: "),
        ({"currency": "eur"}, "currency: "),
        ({"currency_label": ""}, "currency_label: "),
    ):
        with refused("invalid_body", 400, detail):
            shop.company.call("create_tenant", **{"user_id": admin, "name": "Acme", **more})
    with refused("user_not_found", 404):
        shop.company.call("create_tenant", user_id=admin, name="A", manager_account="x@example.org")
    assert shop.company.world.count("tenants") == 1


def test_in_a_closed_tenant_nothing_is_spent(shop: Shop) -> None:
    company, lead, user = shop.company, shop.member(role="dept_lead"), shop.member(50)
    company.fund(shop.tenant, 100)
    reward = shop.reward(5)
    company.world.operator.execute("update tenants set is_active = false")
    with refused("forbidden", 403):
        company.delegate(shop.manager, lead, 10)
    with refused("forbidden", 403):
        shop.redeem(user, reward)
    assert (company.pool(shop.tenant), shop.wallet(user)) == ("100", "50")

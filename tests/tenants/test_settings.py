"""Every setting of a tenant that somebody changes by hand is an amount, and is written down."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop

WHAT_MOVES = {
    "points_allocation_balance",
    "budget_allocation_balance",
    "allocations_due_at",
    "id",
    "created_at",
    "updated_at",
}
OTHERS = {
    "text": "'EUR'",
    "jsonb": "'[]'",
    "boolean": "not {}",
    "numeric": "coalesce({}, 0) + 1",
}
POLICIES = {
    "allocation_mode": "'legacy_fallback'",
    "expiry_policy": "'1_year'",
    "wallet_expiry_policy": "'1_year'",
}


def audited(company: Company, table: str) -> list[dict[str, Any]]:
    return company.world.rows(
        "select actor, action, reason, before, after from audit_log where subject_type = %s"
        " and action like 'settings.%%' order by recorded_at, audit_id",
        (table,),
    )


def test_all_settings_of_a_tenant(company: Company) -> None:
    company.tenant()
    columns = company.world.rows(
        "select column_name::text as name, data_type::text as type from information_schema.columns"
        " where table_schema = 'public' and table_name = 'tenants'"
    )
    settings = [column for column in columns if column["name"] not in WHAT_MOVES]
    assert len(settings) == len(columns) - len(WHAT_MOVES)
    company.world.operator.execute("set tallybook.reason = 'contract'")
    for column in settings:
        name, before = column["name"], len(audited(company, "tenants"))
        value = POLICIES.get(name) or OTHERS[column["type"]].format(name)
        company.world.operator.execute(f"update tenants set {name} = {value}")  # type: ignore[arg-type]
        rows = audited(company, "tenants")
        assert len(rows) == before + 1, name
        assert (rows[-1]["actor"], rows[-1]["reason"]) == ("tallybook_operator", "contract")
        assert rows[-1]["before"][name] != rows[-1]["after"][name]


@pytest.mark.parametrize(
    ("table", "change"),
    [("departments", "monthly_cap = 5"), ("rewards", "points_cost = 1"), ("rewards", "stock = 7")],
)
def test_caps_and_prices_by_hand(company: Company, table: str, change: str) -> None:
    shop = Shop.open(company)
    company.call("set_department", user_id=shop.manager, name="Sales")
    reward = shop.reward(5, stock=3)
    shop.redeem(shop.member(5), reward)
    # What a procedure did, the procedure has written down.
    assert audited(company, table) == []
    company.world.operator.execute(f"update {table} set {change}")  # type: ignore[arg-type]
    [row] = audited(company, table)
    name, value = change.split(" = ")
    assert (row["action"], row["after"][name]) == ("settings.update", int(value))


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("tenants", "low_balance_threshold"),
        ("tenants", "auto_refill_threshold"),
        ("tenants", "auto_refill_amount"),
        ("departments", "monthly_cap"),
        ("rewards", "points_cost"),
        ("allocation_limits", "large_allocation_above"),
    ],
)
@pytest.mark.parametrize("value", ["NaN", "-1"])
def test_what_is_no_amount_is_no_setting(
    company: Company, table: str, column: str, value: str
) -> None:
    shop = Shop.open(company)
    company.department(shop.tenant)
    shop.reward(5)
    with pytest.raises(psycopg.errors.CheckViolation):
        company.world.operator.execute(f"update {table} set {column} = '{value}'")  # type: ignore[arg-type]

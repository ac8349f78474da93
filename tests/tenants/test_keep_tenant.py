"""What tenants were given and what became of it is never taken away, whoever tries."""

from __future__ import annotations

import psycopg
import pytest

from tests.tenants.company import Company

KEPT = ["allocation_logs", "recognitions", "recognition_groups", "reward_redemptions"]


@pytest.mark.parametrize("table", [*KEPT, "platform_billing_logs", "wallet_ledger"])
@pytest.mark.parametrize("how", ["delete from", "truncate"])
def test_logs_are_kept(company: Company, table: str, how: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is append-only"):
        company.world.admin.execute(f"{how} {table}")  # type: ignore[arg-type]


def test_a_tenant_with_points_is_kept(company: Company) -> None:
    tenant, never_used = company.tenant(10), company.tenant()
    for statement in (
        "delete from tenants where id = %s",
        "update tenants set id = gen_random_uuid(), name = 'New' where id = %s",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="has points in the ledger"):
            company.world.admin.execute(statement, (tenant,))  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        company.world.operator.execute("update tenants set id = gen_random_uuid()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        company.world.admin.execute("truncate tenants")
    company.world.admin.execute("update tenants set id = id, name = 'New' where id = %s", (tenant,))
    company.world.admin.execute("delete from tenants where id = %s", (never_used,))
    assert company.world.value("select id from tenants") == tenant

"""Rows of tenants' logs, as a test's background."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.tenants.company import Company, Number
from tests.world import NOW


def allocated(
    company: Company, tenant: UUID, amount: Number, at: datetime = NOW, **columns: Any
) -> UUID:
    """What was allocated to a tenant at some time, with the platform's own row of it."""
    columns = {
        "tenant_id": tenant,
        "amount": amount,
        "actor": "op@example.org",
        "created_at": at,
        **columns,
    }
    allocation: UUID = company.world.value(
        f"insert into allocation_logs ({', '.join(columns)})"
        f" values ({', '.join(['%s'] * len(columns))}) returning id",
        tuple(columns.values()),
    )
    company.world.admin.execute(
        "insert into platform_billing_logs (tenant_id, actor, amount, transaction_type,"
        " reference_note, allocation_id, created_at)"
        " values (%s, 'op@example.org', %s, 'CREDIT_INJECTION', %s, %s, %s)",
        (tenant, amount, columns.get("reference_note"), allocation, at),
    )
    company.move(tenant, "tenant.platform", "tenant.pool", amount)
    return allocation


def billed(
    company: Company, tenant: UUID, amount: Number, kind: str, at: datetime = NOW, **columns: Any
) -> None:
    """A row of the platform's trail, without what it did."""
    columns = {
        "tenant_id": tenant,
        "actor": "op@example.org",
        "amount": amount,
        "transaction_type": kind,
        "created_at": at,
        **columns,
    }
    company.world.admin.execute(
        f"insert into platform_billing_logs ({', '.join(columns)})"  # type: ignore[arg-type]
        f" values ({', '.join(['%s'] * len(columns))})",
        tuple(columns.values()),
    )


def given(company: Company, tenant: UUID, count: int, *members: UUID, at: datetime = NOW) -> None:
    """So many awards of 1, 2, 3 … points in one set, a minute apart, to the members in turns."""
    company.world.admin.execute(
        "select from internal.move_tenant_points(array("
        " select internal.tenant_move(%(tenant)s, 'tenant.pool',"
        "   'tenant.wallet:' || (%(members)s::uuid[])[1 + (g.n - 1) %% %(size)s], g.n, 'award',"
        "   'recognition', internal.uuidv7(), p_wallet_source => 'recognition',"
        "   p_description => 'Award ' || g.n,"
        "   p_created_at => %(at)s::timestamptz + g.n * interval '1 minute')"
        " from generate_series(1, %(count)s) as g(n)))",
        {
            "tenant": tenant,
            "members": list(members),
            "size": len(members),
            "at": at,
            "count": count,
        },
    )


def pages(company: Company, procedure: str, **asked: Any) -> Iterator[list[dict[str, Any]]]:
    """All pages, from cursor to cursor."""
    cursor = None
    while True:
        page = company.call(procedure, cursor=cursor, **asked)
        yield page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)

"""Nothing of the platform's side walks through what grows: other tenants, and long trails."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from uuid import UUID

from tests.tenants.company import Company

GROWING = ["allocation_logs", "platform_billing_logs", "lead_delegations", "tenants"]
GROWING += ["tenant_members", "tenant_alerts", "transfers", "accounts"]
MANY = 3000


def walked(company: Company) -> dict[str, tuple[int, int]]:
    """Table -> sequential scans, and rows read through indexes."""
    world = company.world
    for session in (world.functions, world.worker, world.admin):
        session.execute("select pg_stat_force_next_flush()")
    world.admin.execute("select pg_stat_clear_snapshot()")
    rows = world.rows(
        "select relname, seq_scan, idx_tup_fetch from pg_stat_user_tables where relname = any (%s)",
        (GROWING,),
    )
    return {row["relname"]: (row["seq_scan"], row["idx_tup_fetch"]) for row in rows}


def a_day(company: Company, tenant: UUID, admin: UUID, day: int) -> None:
    manager, lead = company.member(tenant, "hr_admin"), company.member(tenant, "manager")
    more = {"user_id": admin, "ip_address": "192.0.2.7"}
    why = {"user_id": admin, "tenant_id": tenant, "reason": "x"}
    for _ in range(2):
        given = company.allocate(tenant, 100, idempotency_key=f"day {day}", **more)
        company.delegate(manager, lead, 10, idempotency_key=f"day {day}")
        company.call("clawback_allocation", amount=D(1), idempotency_key=f"c {day}", **why)
    company.call("recall_from_lead", user_id=manager, lead_user_id=lead)
    company.call(
        "bulk_allocate_to_tenants", tenant_ids=[tenant, company.tenant()], amount=D(2), **more
    )
    company.call("reverse_allocation", allocation_id=given["allocation_log_id"], amount=D(1), **why)
    company.call("adjust_tenant_pool_to", balance=D(500 + day), **why)
    short = company.tenant(auto_refill_amount=100, expiry_policy="90_days")
    assert company.call("refill_pools", company.world.worker, limit=10)["refilled"] == 1
    company.world.admin.execute("update tenants set allocations_due_at = null")
    company.world.admin.execute(
        "update tenants set allocations_due_at = '2000-01-01' where id = %s", (short,)
    )
    assert company.call("expire_allocations", company.world.worker, limit=10)["expired"] == 1


def test_nothing_walks_through_what_grows(company: Company, admin: UUID) -> None:
    company.world.freeze()
    tenant = company.tenant()
    for day in range(8):
        a_day(company, tenant, admin, day)
    for statement in (
        "insert into tenants (name) select 'T' || g from generate_series(1, %(n)s) as g",
        "insert into tenant_members (tenant_id, user_id) select %(tenant)s, gen_random_uuid()"
        " from generate_series(1, %(n)s)",
        "insert into allocation_logs (tenant_id, allocated_by, actor, amount, ip_address,"
        " idempotency_key, created_at) select gen_random_uuid(), %(admin)s, 'a', 1, '192.0.2.7',"
        " 'k' || g, internal.clock() - interval '1 day' from generate_series(1, %(n)s) as g",
        "insert into platform_billing_logs (tenant_id, admin_id, actor, amount, idempotency_key,"
        " transaction_type) select %(tenant)s, %(admin)s, 'a', -1, 'k' || g, 'CLAWBACK'"
        " from generate_series(1, %(n)s) as g",
        "insert into lead_delegations (tenant_id, delegated_by, lead_user_id, amount,"
        " lead_balance, pool_balance, idempotency_key) select %(tenant)s, gen_random_uuid(),"
        " gen_random_uuid(), 1, 1, 1, 'k' || g from generate_series(1, %(n)s) as g",
    ):
        company.world.admin.execute(statement, {"n": MANY, "tenant": tenant, "admin": admin})
    company.world.admin.execute("analyze")
    company.world.pass_time(timedelta(hours=2))
    admin_two = company.admin()
    before = walked(company)
    a_day(company, tenant, admin_two, 9)
    after = walked(company)
    # The one is the test's own, which changes all tenants' times.
    scans = {table: after[table][0] - before[table][0] for table in GROWING}
    assert scans == {**dict.fromkeys(GROWING, 0), "tenants": 1}
    read = {table: after[table][1] - before[table][1] for table in GROWING}
    assert {table: rows for table, rows in read.items() if rows > MANY / 10} == {}
    # What was written by hand moved nothing, and would be reported.
    company.world.admin.execute(
        "set session_replication_role = replica; delete from lead_delegations where amount = 1"
    )

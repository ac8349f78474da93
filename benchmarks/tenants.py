"""Many tenants: their statistics and the pages of their logs, at the first page and deep down."""

from __future__ import annotations

import math
import time
from typing import Final

import psycopg

from benchmarks.bench import Bench
from benchmarks.rounds import Run, Sample
from benchmarks.stand import Database

MEMBERS: Final = 200
GOAL_MS: Final = 50
SCRAPE: Final = "what a scrape is told"
SCRAPE_GOAL_MS: Final = 200
"""Nobody waits for it, and a process asks at most every ten seconds."""
DEEP: Final = 10_000
ALLOCATIONS: Final = 10
AT_ONCE: Final = 5_000
"""Rows that are written at once."""

# The same ones for the same numbers. Three of a tenant's members lead, one manages.
_PEOPLE: Final = """
with tenant as (
  insert into public.tenants (id, name)
  select md5('tenant ' || g.n)::uuid, 'Tenant ' || g.n from generate_series(1, %(tenants)s) as g(n)
  returning id)
insert into public.tenant_members (tenant_id, user_id, role, display_name)
select t.id, md5(t.id || ' ' || g.n)::uuid,
       case when g.n = 1 then 'tenant_manager' when g.n < 5 then 'tenant_lead' else 'employee' end,
       'Member ' || g.n
  from tenant as t, generate_series(1, %(members)s) as g(n)
"""
_ALLOCATIONS: Final = """
with allocated as (
  insert into public.allocation_logs (tenant_id, actor, amount, reference_note, created_at)
  select t.id, 'bench', 1000000, 'Month ' || g.n,
         timestamptz '2025-01-01Z' + g.n * interval '30 days' + t.n * interval '1 second'
    from (select x.id, row_number() over (order by x.id) as n from public.tenants as x) as t,
         generate_series(1, %(allocations)s) as g(n)
  returning tenant_id, id, amount, created_at
), billed as (
  insert into public.platform_billing_logs (
         tenant_id, actor, amount, transaction_type, allocation_id, created_at)
  select a.tenant_id, 'bench', a.amount, 'CREDIT_INJECTION', a.id, a.created_at from allocated as a)
select count(*) from internal.move_tenant_points(array(
  select internal.tenant_move(a.tenant_id, 'tenant.platform', 'tenant.pool', a.amount,
           'allocation', 'allocation_log', a.id, p_id => a.id, p_created_at => a.created_at)
    from allocated as a))
"""
# To the tenants' members in turns, over a year.
_AWARDS: Final = """
select count(*) from internal.move_tenant_points(array(
  select internal.tenant_move(t.id, 'tenant.pool',
           'tenant.wallet:' || md5(t.id || ' ' || 1 + g.n %% %(members)s)::uuid, 1 + g.n %% 500,
           'award', 'recognition', i.id, p_id => i.id, p_wallet_source => 'recognition',
           p_description => 'Award ' || g.n, p_created_at => i.at)
    from unnest(%(tenants)s::uuid[]) as t(id), generate_series(1, %(awards)s) as g(n),
         lateral (select md5(t.id || ' award ' || g.n)::uuid as id,
           timestamptz '2025-01-01Z' + g.n * (interval '365 days' / %(awards)s) as at) as i))
"""


def reads(bench: Bench) -> None:
    """Load tenants and their wallets' statements, then ask as their managers and the platform."""
    with bench.stand.database() as database:
        began = time.perf_counter()
        rows = _load(database, bench.plan.tenants, bench.plan.wallet_rows)
        what = f"{bench.plan.tenants:,} tenants of {MEMBERS}, {rows:,} wallet rows"
        bench.row("tenants", f"{what}: loaded in {time.perf_counter() - began:.0f} s", "-", None)
        database.settle()
        for name, query in _questions(database).items():
            _ask(bench, database, name, query)
        bench.check_books("tenants", database)


def _load(database: Database, tenants: int, rows: int) -> int:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        numbers = {"tenants": tenants, "members": MEMBERS, "allocations": ALLOCATIONS}
        connection.execute(_PEOPLE, numbers)
        connection.execute(_ALLOCATIONS, numbers)
        ids = [row[0] for row in connection.execute("select id from public.tenants order by id")]
        awards = rows // tenants
        together = max(1, AT_ONCE // awards)
        for first in range(0, tenants, together):
            some = {"tenants": ids[first : first + together], "members": MEMBERS, "awards": awards}
            connection.execute(_AWARDS, some)
            if first == 0:
                connection.execute("analyze")
    return database.number("select count(*) from public.wallet_ledger")


def _questions(database: Database) -> dict[str, str]:
    """What is asked of the first tenant, by its manager, and of all, by a program."""
    [(tenant, manager)] = database.rows(
        "select tenant_id, user_id from public.tenant_members where role = 'tenant_manager'"
        " order by tenant_id limit 1"
    )
    all_ = "public.wallet_ledger_page(null, p_limit => 25"
    deep_of_all = _deep(database, "null", DEEP)
    mine = f"public.wallet_ledger_page('{manager}', p_limit => 25"
    deep_of_mine = _deep(database, f"'{manager}'", DEEP)
    return {
        "what a member sees": f"public.tenant_allocation_stats('{manager}')",
        "what a tenant's logs come to": f"public.points_ledger_stats('{manager}')",
        "what all logs come to": "public.points_ledger_stats(null)",
        "the first page of a tenant's wallets": f"{mine})",
        "the last page of a tenant's wallets": f"{mine}, p_cursor => '{deep_of_mine}')",
        "a tenant's wallets by amount": f"{mine}, p_sort => 'amount')",
        "a tenant's wallets, searched": f"{mine}, p_search => 'award 77')",
        "the first page of all wallets": f"{all_})",
        f"the page of all wallets after {DEEP:,}": f"{all_}, p_cursor => '{deep_of_all}')",
        "the first page of all allocations": "public.allocation_logs_page(null)",
        "all allocations by amount": "public.allocation_logs_page(null, p_sort => 'amount')",
        "the trail of a tenant": f"public.platform_billing_logs_page(null, '{tenant}')",
        SCRAPE: "public.allocation_metrics()",
    }


def _deep(database: Database, whose: str, rows: int) -> str:
    """The cursor behind so many rows, or behind all but the last few."""
    cursor, seen = None, 0
    while seen < rows:
        limit = min(90, rows - seen)
        page = database.rows(
            f"select public.wallet_ledger_page({whose}, p_limit => %s, p_cursor => %s)",
            limit,
            cursor,
        )[0][0]
        if page["next_cursor"] is None:
            break
        cursor, seen = page["next_cursor"], seen + limit
    return str(cursor)


def _ask(bench: Bench, database: Database, name: str, query: str) -> None:
    found = bench.compare(f"tenants, {name}", {"procedure": _asked(database, f"select {query}")})
    ms = 1000 / (found.median("procedure") or math.nan)
    goal = SCRAPE_GOAL_MS if name == SCRAPE else GOAL_MS
    bench.check(f"tenants, {name}: {ms:.1f} ms, and not under {goal}", ms < goal)
    bench.row("tenants", f"{name}: {ms:.2f} ms", "-", None)


def _asked(database: Database, query: str) -> Run:
    def run(seconds: float) -> Sample:
        with psycopg.connect(database.dsn("tallybook_functions"), autocommit=True) as connection:
            connection.execute(query).fetchall()  # type: ignore[call-overload]
            count, began = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - began) < seconds:
                connection.execute(query).fetchall()  # type: ignore[call-overload]
                count += 1
        return Sample(rate=count / elapsed, count=count, seconds=elapsed)

    return run

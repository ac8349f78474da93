-- The runbook's daily check in one row: what all tenants have to give, the least and the most of them, and how many are
-- empty, low, or below zero, which none may be.

create or replace function public.report_tenant_totals()
returns table (total_tenants bigint, total_allocated_budget numeric, min_balance numeric, max_balance numeric, empty bigint, low bigint, below_zero bigint)
language sql stable
set search_path = ''
as $$
  select count(*), sum(t.points_allocation_balance), min(t.points_allocation_balance), max(t.points_allocation_balance),
         count(*) filter (where t.points_allocation_balance = 0),
         count(*) filter (where t.points_allocation_balance > 0 and t.points_allocation_balance < t.low_balance_threshold),
         count(*) filter (where t.points_allocation_balance < 0)
    from public.tenants as t
$$;

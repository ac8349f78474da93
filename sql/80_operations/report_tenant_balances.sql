-- What each tenant has to give, the most first, beside what it was allocated and how often.

create or replace function public.report_tenant_balances(p_limit int default 100)
returns table (name text, tenant_id uuid, allocation_count bigint, total_received numeric, current_balance numeric, in_wallets numeric, is_active boolean)
language sql stable
set search_path = ''
as $$
  select t.name, t.id, a.allocations, a.amount, t.points_allocation_balance, w.balance, t.is_active
    from (select x.* from public.tenants as x order by x.points_allocation_balance desc, x.id limit p_limit) as t
   cross join lateral (
         select count(*) as allocations, coalesce(sum(x.amount), 0) as amount from public.allocation_logs as x where x.tenant_id = t.id) as a
   cross join lateral (
         select coalesce(sum(x.balance), 0) as balance from public.wallets as x where x.tenant_id = t.id) as w
   order by t.points_allocation_balance desc, t.id
$$;

-- Who was allocated the most, since ever or of late.

create or replace function public.report_top_tenants(p_limit int default 20, p_since interval default null)
returns table (name text, points_allocation_balance numeric, allocation_count bigint, total_received numeric, tenant_id uuid)
language sql stable
set search_path = ''
as $$
  select t.name, t.points_allocation_balance, a.allocations, a.amount, t.id
    from (select x.tenant_id, count(*) as allocations, sum(x.amount) as amount
            from public.allocation_logs as x
           where p_since is null or x.created_at >= internal.clock() - p_since
           group by x.tenant_id) as a
    join public.tenants as t on t.id = a.tenant_id
   order by a.amount desc, t.id
   limit p_limit
$$;

-- The latest allocations, of one tenant or of all.

create or replace function public.report_allocations(p_tenant_id uuid default null, p_limit int default 100)
returns table (created_at timestamptz, tenant text, amount numeric, currency text, status text, reversed_amount numeric, actor text, reference_note text, id uuid)
language sql stable
set search_path = ''
as $$
  select a.created_at, t.name, a.amount, a.currency, a.status, a.reversed_amount, a.actor, a.reference_note, a.id
    from (select x.* from public.allocation_logs as x where p_tenant_id is null or x.tenant_id = p_tenant_id
           order by x.created_at desc, x.id desc limit p_limit) as a
    left join public.tenants as t on t.id = a.tenant_id
   order by a.created_at desc, a.id desc
$$;

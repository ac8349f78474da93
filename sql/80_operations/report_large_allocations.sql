-- Single allocations of late above an amount, the largest first.

create or replace function public.report_large_allocations(p_since interval default '1 month', p_above numeric default 1000000)
returns table (created_at timestamptz, tenant text, amount numeric, currency text, actor text, reference_note text, id uuid)
language sql stable
set search_path = ''
as $$
  select a.created_at, t.name, a.amount, a.currency, a.actor, a.reference_note, a.id
    from public.allocation_logs as a
    left join public.tenants as t on t.id = a.tenant_id
   where a.created_at >= internal.clock() - p_since and a.amount > p_above
   order by a.amount desc, a.id
$$;

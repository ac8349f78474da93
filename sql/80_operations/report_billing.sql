-- The latest of what came into tenants and was taken from them, of one tenant or of all.

create or replace function public.report_billing(p_tenant_id uuid default null, p_limit int default 100)
returns table (created_at timestamptz, tenant text, transaction_type text, amount numeric, currency text, actor text, reference_note text, id uuid)
language sql stable
set search_path = ''
as $$
  select b.created_at, t.name, b.transaction_type, b.amount, b.currency, b.actor, b.reference_note, b.id
    from (select x.* from public.platform_billing_logs as x where p_tenant_id is null or x.tenant_id = p_tenant_id
           order by x.created_at desc, x.id desc limit p_limit) as b
    left join public.tenants as t on t.id = b.tenant_id
   order by b.created_at desc, b.id desc
$$;

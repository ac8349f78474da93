-- What was taken back from tenants of late: clawbacks and reversals, the latest first.

create or replace function public.report_clawbacks(p_since interval default '1 month')
returns table (created_at timestamptz, tenant text, transaction_type text, amount numeric, actor text, reference_note text, allocation_id uuid, tenant_id uuid)
language sql stable
set search_path = ''
as $$
  select b.created_at, t.name, b.transaction_type, b.amount, b.actor, b.reference_note, b.allocation_id, b.tenant_id
    from public.platform_billing_logs as b
    left join public.tenants as t on t.id = b.tenant_id
   where b.created_at >= internal.clock() - p_since and b.transaction_type in ('CLAWBACK', 'REVERSAL')
   order by b.created_at desc, b.id desc
$$;

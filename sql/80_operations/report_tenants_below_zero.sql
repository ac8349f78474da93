-- What of tenants is below zero: nothing, or somebody must be called.

create or replace function public.report_tenants_below_zero()
returns table (tenant_id uuid, what text, owner_id uuid, balance numeric)
language sql stable
set search_path = ''
as $$
  select v.tenant_id, v.what, v.owner_id, v.balance from public.tenant_balances_below_zero as v order by v.balance, v.tenant_id
$$;

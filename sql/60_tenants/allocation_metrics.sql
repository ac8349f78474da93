-- What a scrape of Prometheus is told of tenants, as the database has it, so that every process says the same: one row a
-- tenant for the first p_tenants by their ids, everybody after them as 'others', and the p_wallets fullest wallets.
-- Counts and sums of allocations only grow: no allocation is deleted, and what is reversed counts as allocated.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function public.allocation_metrics(p_tenants int default 1000, p_wallets int default 0)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set jit = off
as $$
declare
  v_answer jsonb;
begin
  if p_tenants not between 0 and 10000 then
    perform internal.refuse('invalid_body', 'tenants: must be 0 to 10000');
  elsif p_wallets not between 0 and 10000 then
    perform internal.refuse('invalid_body', 'wallets: must be 0 to 10000');
  end if;

  with tenant as (
    select t.id, t.points_allocation_balance as balance, row_number() over (order by t.id) <= p_tenants as has_label from public.tenants as t
  ), allocated as (
    select a.tenant_id, count(*) as allocations, sum(a.amount) as amount from public.allocation_logs as a group by a.tenant_id
  ), walleted as (
    select w.tenant_id, count(*) as wallets, sum(w.balance) as balance from public.wallets as w group by w.tenant_id
  ), labelled as (
    select case when t.has_label then t.id::text else 'others' end as tenant_id, coalesce(sum(a.allocations), 0) as allocations,
           coalesce(sum(a.amount), 0) as amount, sum(t.balance) as balance, coalesce(sum(w.wallets), 0) as wallets,
           coalesce(sum(w.balance), 0) as in_wallets
      from tenant as t
      left join allocated as a on a.tenant_id = t.id
      left join walleted as w on w.tenant_id = t.id
     group by 1
  )
  select jsonb_build_object('tenants', coalesce(jsonb_agg(jsonb_build_object(
           'tenant_id', l.tenant_id, 'allocations', l.allocations, 'amount', l.amount, 'balance', l.balance,
           'wallets', l.wallets, 'in_wallets', l.in_wallets) order by l.tenant_id), '[]'))
    into v_answer
    from labelled as l;

  return v_answer || jsonb_build_object('wallets', case when p_wallets = 0 then '[]'::jsonb else (
    select coalesce(jsonb_agg(jsonb_build_object('tenant_id', f.tenant_id, 'user_id', f.user_id, 'balance', f.balance)), '[]')
      from (select w.tenant_id, w.user_id, w.balance from public.wallets as w
             order by w.balance desc, w.tenant_id, w.user_id limit p_wallets) as f) end);
end
$$;

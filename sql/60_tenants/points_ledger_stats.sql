-- What the logs of tenants come to: what was allocated, what the platform put in and took out by type, what the tenants have
-- now and where. What moved through wallets is told by source for one tenant; for all of them in one sum since ever.
-- The end date is not included; balances are those of now.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, tenant_not_found, invalid_body.

create or replace function public.points_ledger_stats(
  p_user_id    uuid,
  p_tenant_id  uuid default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_custom_plan
set jit = off
as $$
declare
  v_tenant_id uuid := internal.managed_tenant(p_user_id, p_tenant_id);
  v_from timestamptz := coalesce(p_start_date, '-infinity');
  v_until timestamptz := coalesce(p_end_date, 'infinity');
  v_answer jsonb;
begin
  if v_until < v_from then
    perform internal.refuse('invalid_body', 'end_date: must not lie before start_date');
  end if;

  select jsonb_build_object(
           'tenant_id', v_tenant_id, 'from', p_start_date, 'to', p_end_date,
           'allocations', (
             select jsonb_build_object('count', count(*), 'amount', internal.points_text(coalesce(sum(x.amount), 0)),
                      'reversed', internal.points_text(coalesce(sum(x.reversed_amount), 0)), 'last_at', max(x.created_at))
               from public.allocation_logs as x
              where (v_tenant_id is null or x.tenant_id = v_tenant_id) and x.created_at >= v_from and x.created_at < v_until),
           'billing', (
             select coalesce(jsonb_object_agg(b.transaction_type, jsonb_build_object(
                      'count', b.entries, 'amount', internal.points_text(b.amount))), '{}')
               from (select x.transaction_type, count(*) as entries, sum(x.amount) as amount
                       from public.platform_billing_logs as x
                      where (v_tenant_id is null or x.tenant_id = v_tenant_id) and x.created_at >= v_from and x.created_at < v_until
                      group by x.transaction_type) as b),
           'tenants', t.tenants,
           'balances', jsonb_build_object('pool', internal.points_text(t.pool), 'leads', internal.points_text(m.leads),
             'departments', internal.points_text(d.departments), 'wallets', internal.points_text(w.balance)),
           'wallets', jsonb_build_object('count', w.wallets, 'earned', internal.points_text(w.balance + w.spent),
             'spent', internal.points_text(w.spent)))
    into v_answer
    from (select count(*) as tenants, coalesce(sum(x.points_allocation_balance), 0) as pool
            from public.tenants as x where v_tenant_id is null or x.id = v_tenant_id) as t
   cross join (select coalesce(sum(x.lead_distribution_balance), 0) as leads
            from public.tenant_members as x where (v_tenant_id is null or x.tenant_id = v_tenant_id) and x.lead_distribution_balance > 0) as m
   cross join (select coalesce(sum(x.budget_balance), 0) as departments
            from public.departments as x where v_tenant_id is null or x.tenant_id = v_tenant_id) as d
   -- What was earned is what is there and what was spent: adding up is what takes the time, where wallets are many.
   cross join (select count(*) as wallets, coalesce(sum(x.balance), 0) as balance,
                coalesce(sum(x.lifetime_spent) filter (where x.lifetime_spent > 0), 0) as spent
            from public.wallets as x where v_tenant_id is null or x.tenant_id = v_tenant_id) as w;

  if v_tenant_id is not null then
    v_answer := v_answer || jsonb_build_object('entries', (
      select coalesce(jsonb_object_agg(e.source, jsonb_build_object('count', e.entries, 'credited', internal.points_text(e.credited),
               'debited', internal.points_text(e.debited))), '{}')
        from (select x.source, count(*) as entries, coalesce(sum(x.points) filter (where x.transaction_type = 'credit'), 0) as credited,
                     coalesce(sum(x.points) filter (where x.transaction_type = 'debit'), 0) as debited
                from public.wallet_ledger as x
               where x.tenant_id = v_tenant_id and x.created_at >= v_from and x.created_at < v_until
               group by x.source) as e));
  end if;
  return v_answer;
end
$$;

-- Does to pools what the platform decided, and writes it into the platform's trail; what an administrator decided into the
-- audit log too. The pools are locked, and what is taken is there.
--
-- Locks:   those of internal.move_tenant_points.

create or replace function internal.bill_tenants(p_bills internal.tenant_bill[])
returns void
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  perform from internal.move_tenant_points(array(
            select internal.tenant_move(
                     b.tenant_id, case when b.amount > 0 then c.account else 'tenant.pool' end,
                     case when b.amount > 0 then 'tenant.pool' else c.account end, abs(b.amount), lower(b.transaction_type),
                     case when b.allocation_id is null then 'platform_billing_log' else 'allocation_log' end,
                     coalesce(b.allocation_id, b.id), b.id, p_created_at => v_now)
              from unnest(p_bills) with ordinality as b
             cross join lateral (
                   select case b.transaction_type
                            when 'ADJUSTMENT' then 'tenant.adjusted'
                            when 'EXPIRY' then 'tenant.expired'
                            else 'tenant.platform' end as account) as c
             where b.amount <> 0  -- an adjustment that found what it was to bring is a row, and moves nothing
             order by b.ordinality)) as o
    where o.outcome <> 'posted';
  if found then
    raise exception 'a pool changed that was locked';
  end if;

  -- What stood in the pool after each: what stands there now, less what came later in the set.
  insert into public.platform_billing_logs as l (
         tenant_id, id, admin_id, actor, amount, currency, transaction_type, balance_after, reference_note, allocation_id,
         idempotency_key, request_hash, request_id, created_at)
  select b.tenant_id, b.id, b.admin_id, b.actor, b.amount, t.currency, b.transaction_type,
         t.points_allocation_balance - coalesce(sum(b.amount) over (
           partition by b.tenant_id order by b.ordinality desc rows between unbounded preceding and 1 preceding), 0),
         b.reference_note, b.allocation_id, b.idempotency_key, b.request_hash, b.request_id, v_now
    from unnest(p_bills) with ordinality as b
   cross join lateral (select x.currency, x.points_allocation_balance from public.tenants as x where x.id = b.tenant_id limit 1) as t;

  perform internal.audit(
            l.actor, 'tenant.' || lower(l.transaction_type), 'tenant', l.tenant_id::text, l.reference_note,
            jsonb_build_object('balance', internal.points_text(l.balance_after - l.amount)),
            jsonb_build_object('balance', internal.points_text(l.balance_after), 'amount', internal.points_text(l.amount),
              'platform_log_id', l.id), l.request_id)
     from unnest(p_bills) as b
    cross join lateral (select x.* from public.platform_billing_logs as x where x.tenant_id = b.tenant_id and x.id = b.id limit 1) as l
    where b.transaction_type not in ('EXPIRY', 'REFILL');
end
$$;

-- Brings a tenant's pool to a balance by an adjustment, with a reason: the polite form of writing the balance by hand.
-- Returns {success, tenant_id, adjusted_by, new_allocation_balance, platform_log_id, reason}; adjusted_by is signed, and
-- platform_log_id null where it was that balance already and there is no key under which to remember that.
--
-- Replay:  under a key of the tenant's the same adjustment is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, tenant_not_found, nonce_reused.

create or replace function public.adjust_tenant_pool_to(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_balance         numeric,
  p_reason          text,
  p_idempotency_key text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_refusal jsonb := internal.points_refusal(p_balance, 'balance');
  v_hash text := internal.request_hash(jsonb_build_object('adjust_to', trim_scale(p_balance), 'reason', p_reason));
  v_pool numeric;
  v_bill public.platform_billing_logs;
  v_id uuid;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif p_balance < 0 then
    perform internal.refuse('invalid_amount', 'balance: must not be below zero');
  elsif p_balance is distinct from 0 and v_refusal is not null then
    perform internal.refuse(v_refusal ->> 'code', v_refusal ->> 'detail');
  end if;

  v_pool := internal.locked_pool(p_tenant_id);
  v_bill := internal.billed_before(p_tenant_id, p_idempotency_key, v_hash);
  if v_bill.id is null and (p_balance <> v_pool or p_idempotency_key is not null) then
    v_id := internal.uuidv7();
    perform internal.bill_tenants(array[row(
      p_tenant_id, v_id, p_balance - v_pool, 'ADJUSTMENT', null, p_user_id, v_actor, p_reason, p_idempotency_key, v_hash,
      p_request_id)::internal.tenant_bill]);
    select l.* into v_bill from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.id = v_id;
  end if;

  return jsonb_build_object(
      'success', true, 'tenant_id', p_tenant_id, 'adjusted_by', internal.points_text(coalesce(v_bill.amount, 0)),
      'new_allocation_balance', internal.points_text(coalesce(v_bill.balance_after, v_pool)), 'platform_log_id', v_bill.id,
      'reason', p_reason)
    || case when v_id is null and v_bill.id is not null then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

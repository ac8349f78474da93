-- Takes points out of a tenant's pool, back to the platform: so many, or all that it holds. What was delegated or awarded
-- stays where it is. Returns {success, amount_clawed_back, new_balance, platform_log_id, reason}.
--
-- Replay:  under a key of the tenant's the same clawback is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, tenant_not_found, nonce_reused, insufficient_pool
--          (also when there is nothing).

create or replace function public.clawback_allocation(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_amount          numeric default null,
  p_reason          text default null,
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
  v_refusal jsonb := internal.points_refusal(p_amount);
  v_hash text := internal.request_hash(jsonb_build_object('clawback', trim_scale(p_amount), 'reason', p_reason));
  v_pool numeric;
  v_bill public.platform_billing_logs;
  v_id uuid;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif p_amount is not null and v_refusal is not null then
    perform internal.refuse(v_refusal ->> 'code', v_refusal ->> 'detail');
  end if;

  v_pool := internal.locked_pool(p_tenant_id);
  v_bill := internal.billed_before(p_tenant_id, p_idempotency_key, v_hash);
  if v_bill.id is null then
    if v_pool = 0 or p_amount > v_pool then
      perform internal.refuse('insufficient_pool', format('Insufficient company allocation pool. Available: %s, Required: %s',
        internal.points_text(v_pool), coalesce(internal.points_text(p_amount), 'all')));
    end if;
    v_id := internal.uuidv7();
    perform internal.bill_tenants(array[row(
      p_tenant_id, v_id, -coalesce(p_amount, v_pool), 'CLAWBACK', null, p_user_id, v_actor, p_reason, p_idempotency_key, v_hash,
      p_request_id)::internal.tenant_bill]);
    select l.* into v_bill from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.id = v_id;
  end if;

  return jsonb_build_object(
      'success', true, 'tenant_id', p_tenant_id, 'amount_clawed_back', internal.points_text(-v_bill.amount),
      'new_balance', internal.points_text(v_bill.balance_after), 'platform_log_id', v_bill.id, 'reason', v_bill.reference_note)
    || case when v_id is null then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

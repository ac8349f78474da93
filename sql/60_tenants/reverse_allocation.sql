-- Takes one allocation back to the platform, or so much of it: what neither was taken back already nor has expired, as far
-- as the pool still holds points. Without an amount that is all there is to take. Returns {success, allocation_log_id,
-- amount_reversed, reversed_in_all, status, new_balance, platform_log_id, reason}.
--
-- Replay:  under a key of the tenant's the same reversal is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools; the allocation's row.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, tenant_not_found, allocation_not_found, nonce_reused,
--          not_reversible.

create or replace function public.reverse_allocation(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_allocation_id   uuid,
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
  v_hash text := internal.request_hash(jsonb_build_object(
    'reverse', p_allocation_id, 'amount', trim_scale(p_amount), 'reason', p_reason));
  v_pool numeric;
  v_available numeric;
  v_reversed numeric;
  v_expired numeric;
  v_allocation public.allocation_logs;
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
  select l.* into v_allocation from public.allocation_logs as l where l.tenant_id = p_tenant_id and l.id = p_allocation_id;
  if v_allocation.id is null then
    perform internal.refuse('allocation_not_found', format('allocation_id: %s', p_allocation_id));
  end if;

  if v_bill.id is null then
    v_available := least(v_allocation.amount - v_allocation.reversed_amount - v_allocation.expired_amount, v_pool);
    if v_available = 0 or p_amount > v_available then
      perform internal.refuse('not_reversible', format('amount: %s of %s can be taken back',
        internal.points_text(v_available), internal.points_text(v_allocation.amount)));
    end if;
    v_id := internal.uuidv7();
    perform internal.bill_tenants(array[row(
      p_tenant_id, v_id, -coalesce(p_amount, v_available), 'REVERSAL', p_allocation_id, p_user_id, v_actor, p_reason,
      p_idempotency_key, v_hash, p_request_id)::internal.tenant_bill]);
    update public.allocation_logs as l
       set reversed_amount = l.reversed_amount + coalesce(p_amount, v_available), updated_at = internal.clock(),
           status = case when l.reversed_amount + coalesce(p_amount, v_available) + l.expired_amount = l.amount then 'REVOKED'
                         else l.status end
     where l.tenant_id = p_tenant_id and l.id = p_allocation_id;
    select l.* into v_bill from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.id = v_id;
  end if;

  -- As it stood after this one: ids sort by time as well.
  select coalesce(-sum(l.amount) filter (where l.transaction_type = 'REVERSAL'), 0),
         coalesce(-sum(l.amount) filter (where l.transaction_type = 'EXPIRY'), 0)
    into v_reversed, v_expired
    from public.platform_billing_logs as l
   where l.tenant_id = p_tenant_id and l.allocation_id = p_allocation_id and (l.created_at, l.id) <= (v_bill.created_at, v_bill.id);

  return jsonb_build_object(
      'success', true, 'tenant_id', p_tenant_id, 'allocation_log_id', p_allocation_id,
      'amount_reversed', internal.points_text(-v_bill.amount), 'reversed_in_all', internal.points_text(v_reversed),
      'status', case when v_reversed + v_expired = v_allocation.amount then 'REVOKED' when v_expired > 0 then 'EXPIRED' else 'COMPLETED' end,
      'new_balance', internal.points_text(v_bill.balance_after), 'platform_log_id', v_bill.id, 'reason', v_bill.reference_note)
    || case when v_id is null then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

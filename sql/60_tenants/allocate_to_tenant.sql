-- Gives a tenant's pool points of the platform, by an administrator's or a program's decision. Returns {success, tenant_id,
-- amount_allocated, new_allocation_balance, currency, allocation_log_id, platform_log_id}.
--
-- Replay:  under a key of the tenant's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   those of internal.allocate_to_tenants.
-- Refuses: forbidden, invalid_amount, invalid_body, tenant_not_found, nonce_reused, rate_limited.

create or replace function public.allocate_to_tenant(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_amount          numeric,
  p_reference_note  text default null,
  p_currency        text default null,
  p_idempotency_key text default null,
  p_ip_address      inet default null,
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
begin
  return (
    select internal.single(o)
      from internal.allocate_to_tenants(
             p_user_id, jsonb_build_array(jsonb_build_object(
               'tenant_id', p_tenant_id, 'amount', p_amount, 'currency', p_currency, 'idempotency_key', p_idempotency_key)),
             p_reference_note, p_ip_address, 'CREDIT_INJECTION', v_actor, p_request_id) as o);
end
$$;

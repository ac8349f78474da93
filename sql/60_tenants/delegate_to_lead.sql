-- Gives a lead points of the pool to award, by a manager of the tenant. Returns {success,
-- lead_new_balance, tenant_remaining_balance, reference_note, delegation_id}.
--
-- Replay:  under a key of the manager's the same is answered as the first time, with "replayed", for ever.
-- Locks:   the lead's account, the pool; then the cache rows.
-- Refuses: forbidden, invalid_amount, invalid_body, recipient_not_found, nonce_reused, insufficient_pool.

create or replace function public.delegate_to_lead(
  p_user_id         uuid,
  p_lead_user_id    uuid,
  p_amount          numeric,
  p_reference_note  text default null,
  p_tenant_id       uuid default null,
  p_idempotency_key text default null,
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
begin
  return internal.move_lead_budget(
    internal.membership(p_user_id, p_tenant_id), p_lead_user_id, p_amount, false, p_reference_note, p_idempotency_key, p_request_id);
end
$$;

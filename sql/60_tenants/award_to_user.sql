-- Awards points to one member: internal.award_to_user_batch for one request. Without p_user_id it is the system that awards.
-- Returns {success, amount_awarded, recipient_new_wallet_balance, tenant_remaining_pool, ledger_entry_id, recognition_id, funded_by}.
--
-- Replay, Locks, Refuses: as internal.give_recognition_batch.

create or replace function public.award_to_user(
  p_user_id             uuid,
  p_to_user_id          uuid,
  p_amount              numeric,
  p_recognition_message text,
  p_tenant_id           uuid default null,
  p_idempotency_key     text default null,
  p_request_id          text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.award_to_user_batch(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
           'user_id', p_user_id, 'to_user_id', p_to_user_id, 'amount', p_amount, 'recognition_message', p_recognition_message,
           'tenant_id', p_tenant_id, 'idempotency_key', p_idempotency_key, 'request_id', p_request_id)))) as o;
  return internal.single(v_outcome);
end
$$;

-- Charges a user for what was used: internal.deduct_credits_batch for one request.
-- Returns {transaction_id, cost, new_balance, model, power_level, account}, of these what is known.
--
-- Replay, Locks, Refuses: as internal.deduct_credits_batch.

create or replace function public.deduct_credits(
  p_user_id         uuid,
  p_amount          numeric default null,
  p_tokens_used     bigint default null,
  p_model           text default null,
  p_provider        text default null,
  p_power_level     text default null,
  p_service         text default null,
  p_reason          text default null,
  p_metadata        jsonb default null,
  p_idempotency_key text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.deduct_credits_batch(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
           'user_id', p_user_id, 'amount', p_amount, 'tokens_used', p_tokens_used, 'model', p_model, 'provider', p_provider,
           'power_level', p_power_level, 'service', p_service, 'reason', p_reason, 'metadata', p_metadata,
           'idempotency_key', p_idempotency_key, 'request_id', p_request_id)))) as o;
  return internal.single(v_outcome);
end
$$;

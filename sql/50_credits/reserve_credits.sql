-- Sets credits aside before a call of a model: internal.reserve_credits_batch for one request.
-- Returns {reservation_id, reserved, is_price_known, expires_at, balance, available, account, replayed}.
--
-- Replay, Locks, Refuses: as internal.reserve_credits_batch.

create or replace function public.reserve_credits(
  p_user_id            uuid,
  p_model              text default null,
  p_provider           text default null,
  p_power_level        text default 'balanced',
  p_max_tokens         bigint default null,
  p_max_cost           numeric default null,
  p_expires_in_seconds int default 600,
  p_metadata           jsonb default null,
  p_by_user            boolean default false,
  p_idempotency_key    text default null,
  p_request_id         text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.reserve_credits_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'model', p_model, 'provider', p_provider, 'power_level', p_power_level, 'max_tokens', p_max_tokens,
           'max_cost', p_max_cost, 'expires_in_seconds', p_expires_in_seconds, 'metadata', p_metadata, 'by_user', p_by_user,
           'idempotency_key', p_idempotency_key, 'request_id', p_request_id))) as o;
  return internal.single(v_outcome);
end
$$;

-- Charges what a call of a model came to, out of what was reserved for it: internal.settle_credits_batch for one request.
-- Returns {transaction_id, cost, charged, released, shortfall, new_balance, account, replayed}.
--
-- Replay, Locks, Refuses: as internal.settle_credits_batch.

create or replace function public.settle_credits(
  p_user_id        uuid,
  p_reservation_id uuid,
  p_tokens_used    bigint default null,
  p_cost           numeric default null,
  p_success        boolean default true,
  p_metadata       jsonb default null,
  p_by_user        boolean default false,
  p_request_id     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.settle_credits_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'reservation_id', p_reservation_id, 'tokens_used', p_tokens_used, 'cost', p_cost, 'success', p_success,
           'metadata', p_metadata, 'by_user', p_by_user, 'request_id', p_request_id))) as o;
  return internal.single(v_outcome);
end
$$;

-- Gives a user credits, or takes some by an adjustment, by an administrator's or a program's decision. What is given is a lot
-- of its own, which may expire. Returns {new_balance, transaction_id, account}.
--
-- Replay:  under a key of the user's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_credits.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, user_not_found, own_event, nonce_reused,
--          insufficient_credits.

create or replace function public.allocate_credits(
  p_user_id          uuid,
  p_account          text,
  p_amount           numeric,
  p_reason           text,
  p_transaction_type text default 'bonus',
  p_source           text default null,
  p_priority         int default null,
  p_expires_at       timestamptz default null,
  p_idempotency_key  text default null,
  p_actor            text default null,
  p_request_id       text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_answer jsonb;
begin
  select internal.single(o) into v_answer
    from internal.allocate_credits_batch(
           p_user_id, jsonb_build_array(jsonb_build_object(
             'user_id', p_account, 'amount', p_amount, 'source', p_source, 'priority', p_priority, 'expires_at', p_expires_at,
             'idempotency_key', p_idempotency_key)),
           p_reason, p_transaction_type, v_actor, p_request_id) as o;
  return v_answer - 'user_id' || jsonb_build_object('account', internal.credit_account((v_answer ->> 'user_id')::uuid));
end
$$;

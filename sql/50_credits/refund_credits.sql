-- Gives back what a usage cost, or a part of it: to the lots it came from, and to the month it was of. An administrator's or
-- a program's decision. Returns {transaction_id, refunded, new_balance, account}; the transaction is the refund's own.
--
-- Replay:  under a key of the user's the same refund is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_credits; the usage's row of the rollup.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, user_not_found, own_event, transaction_not_found,
--          not_refundable, refund_exceeded, nonce_reused.

create or replace function public.refund_credits(
  p_user_id         uuid,
  p_account         text,
  p_transaction_id  uuid,
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
  v_account uuid := internal.user_of_account(p_account);
  v_hash text := internal.request_hash(jsonb_build_object(
    'refund', p_transaction_id, 'amount', trim_scale(p_amount), 'reason', p_reason));
  v_id uuid;
  v_usage public.credit_transactions;
  v_left numeric;
  v_refund public.credit_transactions;
  v_replayed boolean;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif v_account = p_user_id then
    perform internal.refuse('own_event', 'account: nobody refunds credits to themselves');
  elsif p_amount <= 0 or p_amount > 1000000000 or scale(trim_scale(p_amount)) > 6 then
    perform internal.refuse('invalid_amount', 'amount: must be greater than zero, with at most six decimal places');
  elsif length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  elsif internal.is_system_key(p_idempotency_key) then
    perform internal.refuse('invalid_body', 'idempotency_key: must not begin with purchase: or allocation:');
  end if;

  perform internal.lock_credits(array[v_account]);
  perform internal.expire_credit_lots(array[v_account]);

  select t.* into v_refund
    from public.credit_transactions as t where t.user_id = v_account and t.idempotency_key = p_idempotency_key;
  v_replayed := v_refund.id is not null;
  if v_replayed and v_refund.request_hash is distinct from v_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;

  if not v_replayed then
    select t.* into v_usage from public.credit_transactions as t where t.user_id = v_account and t.id = p_transaction_id;
    if v_usage.id is null then
      perform internal.refuse('transaction_not_found', format('transaction_id: %s', p_transaction_id));
    elsif v_usage.transaction_type <> 'usage' then
      perform internal.refuse('not_refundable', format('transaction_id: this is a %s', v_usage.transaction_type));
    end if;
    v_left := -v_usage.amount - coalesce((
      select sum(t.amount) from public.credit_transactions as t where t.user_id = v_account and t.refund_of = p_transaction_id), 0);
    if coalesce(p_amount, 0) > v_left or v_left = 0 then
      perform internal.refuse('refund_exceeded', format('amount: %s of %s are left to refund',
        internal.credits_text(v_left), internal.credits_text(-v_usage.amount)));
    end if;

    -- Ids tell the order, so it is made when everything before has happened.
    v_id := internal.uuidv7();
    perform from internal.move_credits(array[internal.credit_move(
      v_account, coalesce(p_amount, v_left), 'refund', p_id => v_id, p_reason => p_reason, p_provider => v_usage.provider,
      p_model => v_usage.model, p_power_level => v_usage.power_level, p_refund_of => v_usage.id,
      p_idempotency_key => p_idempotency_key, p_request_hash => v_hash, p_actor => v_actor, p_request_id => p_request_id)]);
    select t.* into v_refund from public.credit_transactions as t where t.user_id = v_account and t.id = v_id;
    perform internal.record_usage_refund(v_account, p_transaction_id, v_refund.amount);
    perform internal.audit(
      v_actor, 'credits.refund', 'user', v_account::text, p_reason,
      jsonb_build_object('balance', internal.credits_json(v_refund.balance_after - v_refund.amount)),
      jsonb_build_object('balance', internal.credits_json(v_refund.balance_after), 'amount', internal.credits_json(v_refund.amount),
        'refund_of', p_transaction_id, 'transaction_id', v_refund.id), p_request_id);
  end if;

  return jsonb_build_object(
      'transaction_id', v_refund.id, 'refunded', internal.credits_json(v_refund.amount),
      'new_balance', internal.credits_json(v_refund.balance_after),
      'account', internal.credit_account(v_account))
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

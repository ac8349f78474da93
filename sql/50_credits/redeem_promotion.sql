-- Takes a promotional code: its credits come at once, a discount waits for the next purchase. Returns {code, discount_type,
-- discount_value, credits, new_balance, transaction_id, expires_at, account}.
--
-- Replay:  the same code under the same key is answered as the first time, with "replayed". Without a key, a code that may be
--          taken once is coupon_used the second time, and the statement tells what the first one brought.
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the user's credits; then the code.
-- Refuses: invalid_body; rate_limited, coupon_not_valid (unknown, switched off, too early, too late, used up: all alike), both returned as
--          {"refusal": …}, because they are remembered; coupon_used; nonce_reused.

create or replace function public.redeem_promotion(
  p_user_id         uuid,
  p_code            text,
  p_ip_address      inet default null,
  p_device_id       text default null,
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
declare
  v_code text := internal.promotion_code(p_code);
  v_hash text := internal.request_hash(jsonb_build_object('promotion', v_code));
  v_id uuid;
  v_refusal jsonb;
  v_terms record;
  v_is_taken boolean := false;
  v_transaction public.credit_transactions;
  v_redemption public.coupon_redemptions;
begin
  perform internal.act_for(array[p_user_id]);
  if internal.is_system_key(p_idempotency_key) then
    perform internal.refuse('invalid_body', 'idempotency_key: must not begin with purchase: or allocation:');
  end if;
  v_refusal := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;
  perform internal.lock_credits(array[p_user_id]);

  select t.* into v_transaction
    from public.credit_transactions as t
   where t.user_id = p_user_id and t.idempotency_key = p_idempotency_key;
  if v_transaction.request_hash is distinct from v_hash and v_transaction.id is not null then
    perform internal.refuse('nonce_reused', format('idempotency_key: %s came with another request before', p_idempotency_key));
  end if;

  if v_transaction.id is null then
    select t.* into v_terms from internal.promotion_terms(p_user_id, v_code) as t;
    if v_terms.is_used then
      perform internal.refuse('coupon_used', format('code: %s was redeemed by this user as often as allowed', v_code));
    elsif v_terms.is_valid then
      -- Somebody else may have had the last one since, or an administrator the code.
      update public.coupon_codes as c
         set times_used = c.times_used + 1
       where c.code = v_code and c.is_active and (c.times_used < c.max_uses) is not false;
      v_is_taken := found;
    end if;
    if not v_is_taken then
      return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
    end if;

    perform internal.expire_credit_lots(array[p_user_id]);
    -- Ids tell the order, so it is made when everything before has happened.
    v_id := internal.uuidv7();
    perform internal.move_credits(array[internal.credit_move(
      p_user_id, v_terms.credits, 'bonus', p_id => v_id, p_reason => coalesce(v_terms.description, format('Promotional code %s', v_code)),
      p_metadata => jsonb_build_object('code', v_code, 'discount_type', v_terms.discount_type,
                                       'discount_value', internal.credits_json(v_terms.discount_value)),
      p_idempotency_key => p_idempotency_key, p_request_hash => v_hash, p_request_id => p_request_id,
      p_source => v_terms.source, p_priority => v_terms.priority, p_expires_at => v_terms.lasts_until)]);
    insert into public.coupon_redemptions (user_id, code, redemption, discount_type, discount_value, transaction_id, expires_at, redeemed_at)
    values (p_user_id, v_code, v_terms.redemption, v_terms.discount_type, v_terms.discount_value, v_id, v_terms.lasts_until, internal.clock())
    returning * into v_redemption;
  else
    select r.* into v_redemption
      from public.coupon_redemptions as r
     where r.user_id = p_user_id and r.transaction_id = v_transaction.id;
  end if;
  return (
    select jsonb_build_object(
             'code', v_code, 'discount_type', v_redemption.discount_type,
             'discount_value', internal.credits_json(v_redemption.discount_value), 'credits', internal.credits_json(t.amount),
             'new_balance', internal.credits_json(t.balance_after), 'transaction_id', t.id, 'expires_at', v_redemption.expires_at,
             'account', internal.credit_account(p_user_id), 'replayed', not v_is_taken)
      from public.credit_transactions as t
     where t.user_id = p_user_id and t.id = v_redemption.transaction_id);
end
$$;

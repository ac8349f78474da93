-- Uses a coupon up, for whoever shows its code at its partner's till: a member of the partner, or the service.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  the same caller under the same key gets the first answer again, with "replayed".
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the coupon.
-- Refuses: rate_limited, forbidden (its owner), coupon_held (by the same caller under another key), coupon_not_valid. The first and the
--          last are returned as {"refusal": …}, because they are remembered.

create or replace function public.consume_coupon(
  p_user_id          uuid,
  p_code_hashes      text[],
  p_idempotency_key  text,
  p_redemption_proof jsonb default null,
  p_ip_address       inet default null,
  p_device_id        text default null,
  p_request_id       text default null
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
  v_now timestamptz := internal.clock();
  v_refusal jsonb := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  v_coupon internal.shown_coupon;
  v_replayed boolean;
begin
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, true);
  v_replayed := v_coupon.status = 'redeemed' and v_coupon.redeemed_by = v_coupon.caller and v_coupon.redemption_key = p_idempotency_key;
  if v_coupon.standing = 'owner' then
    perform internal.refuse('forbidden', 'A coupon is consumed at its partner''s till.');
  elsif v_coupon.standing = 'partner' and v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller
        and v_coupon.hold_key is distinct from p_idempotency_key then
    perform internal.refuse('coupon_held', format('idempotency_key: it is held until %s under another one', v_coupon.held_until));
  elsif v_coupon.standing = 'partner' and (v_coupon.status = 'issued' or v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller) then
    v_coupon.redeemed_at := v_now;
    v_coupon.redeemed_by := v_coupon.caller;
    v_coupon.redemption_terms := jsonb_build_object(
      'template_name', v_coupon.template_name, 'coupon_value_type', v_coupon.coupon_value_type, 'coupon_value', v_coupon.coupon_value);
    update public.coupons as c
       set status = 'redeemed', redeemed_at = v_now, redeemed_by = v_coupon.caller, redemption_key = p_idempotency_key,
           redemption_proof = p_redemption_proof, redemption_terms = v_coupon.redemption_terms,
           request_id = p_request_id, updated_at = v_now
     where c.coupon_id = v_coupon.coupon_id;
  elsif v_coupon.standing is distinct from 'partner' or v_replayed is not true then
    return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
  end if;

  return jsonb_build_object(
    'coupon_id', v_coupon.coupon_id, 'status', 'redeemed', 'redeemed_at', v_coupon.redeemed_at, 'redeemed_by', v_coupon.redeemed_by)
    || v_coupon.redemption_terms || jsonb_build_object('replayed', v_replayed);
end
$$;

-- Says what a promotional code is worth to this user, without taking it. Returns {valid, code, discount_type, discount_value,
-- description, expires_at}.
--
-- Replay:  it changes nothing but the count of wrong codes.
-- Locks:   nobody else shows a code from the same user, device or address meanwhile.
-- Refuses: rate_limited, coupon_not_valid, both returned as {"refusal": …}, because they are remembered; coupon_used.

create or replace function public.validate_promotion(
  p_user_id    uuid,
  p_code       text,
  p_ip_address inet default null,
  p_device_id  text default null
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
  v_refusal jsonb;
  v_terms record;
begin
  perform internal.act_for(array[p_user_id]);
  v_refusal := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  select t.* into v_terms from internal.promotion_terms(p_user_id, internal.promotion_code(p_code)) as t;
  if v_terms.is_used then
    perform internal.refuse('coupon_used', format('code: %s was redeemed by this user as often as allowed', v_terms.code));
  elsif v_terms.is_valid then
    return jsonb_build_object(
      'valid', true, 'code', v_terms.code, 'discount_type', v_terms.discount_type,
      'discount_value', internal.credits_json(v_terms.discount_value), 'description', v_terms.description, 'expires_at', v_terms.expires_at);
  end if;
  return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
end
$$;

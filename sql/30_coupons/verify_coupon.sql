-- Says whether a coupon can be used, to whoever shows its code. Its owner hears how it really stands; its partner's members, and the
-- service, see one that they could consume. Everybody else, and everybody with any other code, gets one and the same answer.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  it changes nothing but the count of wrong codes.
-- Locks:   nobody else shows a code from the same user, device or address meanwhile.
-- Refuses: rate_limited, coupon_not_valid, both returned as {"refusal": …}, because they are remembered.

create or replace function public.verify_coupon(
  p_user_id     uuid,
  p_code_hashes text[],
  p_ip_address  inet default null,
  p_device_id   text default null
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
  v_refusal jsonb := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  v_coupon internal.shown_coupon;
begin
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, false);
  if v_coupon.standing = 'owner'
     or v_coupon.standing = 'partner' and (v_coupon.status = 'issued' or v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller) then
    return jsonb_build_object(
      'valid', v_coupon.status = 'issued' or v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller,
      'status', v_coupon.status, 'coupon_id', v_coupon.coupon_id, 'template_name', v_coupon.template_name,
      'coupon_value_type', v_coupon.coupon_value_type, 'coupon_value', v_coupon.coupon_value,
      'partner_name', v_coupon.partner_name, 'expires_at', v_coupon.expires_at);
  end if;
  return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
end
$$;

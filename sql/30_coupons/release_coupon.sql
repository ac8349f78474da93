-- Lets a coupon go that was held for a purchase which did not happen.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  the same caller under the same key gets the first answer again until somebody else holds it, with "replayed".
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the coupon.
-- Refuses: rate_limited, forbidden (its owner), coupon_not_held, coupon_not_valid. The first and the last are returned as
--          {"refusal": …}, because they are remembered.

create or replace function public.release_coupon(
  p_user_id         uuid,
  p_code_hashes     text[],
  p_idempotency_key text,
  p_ip_address      inet default null,
  p_device_id       text default null,
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
  v_refusal jsonb := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  v_coupon internal.shown_coupon;
begin
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, true);
  if v_coupon.standing = 'owner' then
    perform internal.refuse('forbidden', 'A coupon is released at its partner''s till.');
  elsif v_coupon.standing is distinct from 'partner'
        or v_coupon.status <> 'issued' and (v_coupon.status <> 'held' or v_coupon.held_by <> v_coupon.caller) then
    return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
  elsif (v_coupon.held_by, v_coupon.hold_key) is distinct from (v_coupon.caller, p_idempotency_key) then
    perform internal.refuse('coupon_not_held');
  elsif v_coupon.status = 'held' then
    -- Who held it and under which key stays, and tells a replay from what was never held.
    update public.coupons as c
       set status = 'issued', request_id = p_request_id, updated_at = internal.clock()
     where c.coupon_id = v_coupon.coupon_id;
  end if;

  return jsonb_build_object('coupon_id', v_coupon.coupon_id, 'status', 'issued', 'replayed', v_coupon.status = 'issued');
end
$$;

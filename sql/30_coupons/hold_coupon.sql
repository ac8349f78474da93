-- Keeps a coupon for one purchase at its partner's till, so that nobody else consumes it meanwhile. A hold ends by itself, at the latest
-- with the coupon; whoever holds it consumes or releases it under the same key.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  the same caller under the same key gets the first answer again while the hold lasts, with "replayed".
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the coupon.
-- Refuses: invalid_body, rate_limited, forbidden (its owner), coupon_held (by the same caller under another key), coupon_not_valid. The
--          second and the last are returned as {"refusal": …}, because they are remembered.

create or replace function public.hold_coupon(
  p_user_id         uuid,
  p_code_hashes     text[],
  p_idempotency_key text,
  p_hold_seconds    int default 600,
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
  v_now timestamptz := internal.clock();
  v_refusal jsonb;
  v_coupon internal.shown_coupon;
  v_replayed boolean;
begin
  if p_hold_seconds is null or p_hold_seconds not between 1 and 86400 then
    perform internal.refuse('invalid_body', 'hold_seconds: must lie between 1 and 86400');
  end if;
  v_refusal := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, true);
  v_replayed := v_coupon.status = 'held';
  if v_coupon.standing = 'owner' then
    perform internal.refuse('forbidden', 'A coupon is held at its partner''s till.');
  elsif v_coupon.standing = 'partner' and v_coupon.status = 'issued' then
    v_coupon.held_until := least(v_now + make_interval(secs => p_hold_seconds), v_coupon.expires_at);
    update public.coupons as c
       set status = 'held', held_until = v_coupon.held_until, held_by = v_coupon.caller, hold_key = p_idempotency_key,
           request_id = p_request_id, updated_at = v_now
     where c.coupon_id = v_coupon.coupon_id;
  elsif v_coupon.standing is distinct from 'partner' or v_coupon.status <> 'held' or v_coupon.held_by <> v_coupon.caller then
    return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
  elsif v_coupon.hold_key is distinct from p_idempotency_key then
    perform internal.refuse('coupon_held', format('idempotency_key: it is held until %s under another one', v_coupon.held_until));
  end if;

  return jsonb_build_object(
    'coupon_id', v_coupon.coupon_id, 'status', 'held', 'held_until', v_coupon.held_until, 'replayed', v_replayed);
end
$$;

-- Ends a coupon for good, and gives its points back when asked to. Administrators only.
--
-- Replay:  none: the second call is refused, and the refusal says that the first has done it.
-- Locks:   the coupon; with a refund also its template's stock and the user's account.
-- Refuses: forbidden, reason_required, coupon_not_found, coupon_used, coupon_revoked, coupon_refunded.

create or replace function public.revoke_coupon(
  p_user_id    uuid,
  p_coupon_id  uuid,
  p_reason     text,
  p_refund     boolean default false,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_now timestamptz := internal.clock();
  v_coupon public.coupons;
  v_refund jsonb := jsonb_build_object('points_refunded', 0);
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;

  select c.* into v_coupon from public.coupons as c where c.coupon_id = p_coupon_id for update;
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('coupon_id: %s', p_coupon_id));
  elsif v_coupon.status = 'redeemed' then
    perform internal.refuse('coupon_used', format('coupon_id: %s, at %s', p_coupon_id, v_coupon.redeemed_at));
  elsif v_coupon.status = 'revoked' then
    perform internal.refuse('coupon_revoked', format('coupon_id: %s, at %s', p_coupon_id, v_coupon.revoked_at));
  end if;

  update public.coupons as c
     set status = 'revoked', revoked_at = v_now, revoked_by = v_actor, revocation_reason = p_reason,
         request_id = coalesce(p_request_id, c.request_id), updated_at = v_now
   where c.coupon_id = p_coupon_id;
  if p_refund then
    v_refund := internal.refund_coupon_points(v_coupon, p_reason, v_actor, p_request_id);
  end if;

  return jsonb_build_object(
    'coupon_id', p_coupon_id, 'user_id', v_coupon.issued_to, 'status', 'revoked', 'revoked_at', v_now, 'revoked_by', v_actor) || v_refund;
end
$$;

-- Gives back the points of a coupon that was not used, and ends it when it has not ended yet. Administrators only.
--
-- Replay:  none: the second call is refused, and the refusal says that the first has done it.
-- Locks:   the coupon, its template's stock, the user's account.
-- Refuses: forbidden, reason_required, coupon_not_found, coupon_refunded, coupon_used.

create or replace function public.refund_coupon(
  p_user_id    uuid,
  p_coupon_id  uuid,
  p_reason     text,
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
  v_coupon public.coupons;
  v_refund jsonb;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;

  select c.* into v_coupon from public.coupons as c where c.coupon_id = p_coupon_id for update;
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('coupon_id: %s', p_coupon_id));
  end if;

  v_refund := internal.refund_coupon_points(v_coupon, p_reason, v_actor, p_request_id);

  return (
    select jsonb_build_object(
             'coupon_id', c.coupon_id, 'user_id', c.issued_to, 'status', c.status, 'refunded_at', c.refunded_at, 'refunded_by', v_actor)
           || v_refund
      from public.coupons as c
     where c.coupon_id = p_coupon_id);
end
$$;

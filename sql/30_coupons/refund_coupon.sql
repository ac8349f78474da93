-- Gives back the points of a coupon that was not used, and ends it when it has not ended yet. Administrators only.
--
-- Replay:  the same actor and reason again get the first answer; anybody else's refund is refused.
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
  v_replayed boolean;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;

  select c.* into v_coupon from public.coupons as c where c.coupon_id = p_coupon_id for update;
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('coupon_id: %s', p_coupon_id));
  end if;

  v_replayed := exists (
    select from public.points_events as e
     where e.user_id = v_coupon.issued_to and e.id = v_coupon.refund_points_event_id
       and e.validated_by = v_actor and e.validation_notes = p_reason);
  if not v_replayed then
    perform internal.refund_coupon_points(v_coupon, p_reason, v_actor, p_request_id);
  end if;

  return (
    select jsonb_build_object(
             'coupon_id', c.coupon_id, 'user_id', c.issued_to, 'status', c.status, 'refunded_at', c.refunded_at, 'refunded_by', v_actor,
             'points_refunded', c.issued_points_cost, 'refund_points_event_id', c.refund_points_event_id, 'replayed', v_replayed)
      from public.coupons as c
     where c.coupon_id = p_coupon_id);
end
$$;

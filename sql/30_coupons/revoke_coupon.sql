-- Ends a coupon for good, and gives its points back when asked to. Administrators only.
--
-- Replay:  the same actor, reason and refund again get the first answer; any other revocation is refused. Points that were
--          given back by the revocation itself have its time.
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
  v_replayed boolean;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;

  select c.* into v_coupon from public.coupons as c where c.coupon_id = p_coupon_id for update;
  v_replayed := v_coupon.status = 'revoked' and v_coupon.revoked_by = v_actor and v_coupon.revocation_reason = p_reason
                and p_refund = (v_coupon.refunded_at is not distinct from v_coupon.revoked_at);
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('coupon_id: %s', p_coupon_id));
  elsif v_coupon.status = 'redeemed' then
    perform internal.refuse('coupon_used', format('coupon_id: %s, at %s', p_coupon_id, v_coupon.redeemed_at));
  elsif v_coupon.status = 'revoked' and not v_replayed then
    perform internal.refuse('coupon_revoked', format('coupon_id: %s, at %s', p_coupon_id, v_coupon.revoked_at));
  end if;

  if not v_replayed then
    update public.coupons as c
       set status = 'revoked', revoked_at = v_now, revoked_by = v_actor, revocation_reason = p_reason,
           request_id = coalesce(p_request_id, c.request_id), updated_at = v_now
     where c.coupon_id = p_coupon_id;
    if p_refund then
      perform internal.refund_coupon_points(v_coupon, p_reason, v_actor, p_request_id);
    end if;
  end if;

  return (
    select jsonb_build_object(
             'coupon_id', c.coupon_id, 'user_id', c.issued_to, 'status', c.status, 'revoked_at', c.revoked_at, 'revoked_by', v_actor,
             'points_refunded', case when p_refund then c.issued_points_cost else 0 end, 'replayed', v_replayed)
           || case when p_refund then jsonb_build_object('refund_points_event_id', c.refund_points_event_id) else '{}' end
      from public.coupons as c
     where c.coupon_id = p_coupon_id);
end
$$;

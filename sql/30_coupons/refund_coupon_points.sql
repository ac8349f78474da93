-- Gives back the points of a coupon that the caller has locked: writes the event, whose trigger does what a refund does to
-- the coupon, and posts it.
--
-- Locks:   the coupon, its template's stock, the user's account, the cache row.
-- Refuses: coupon_refunded, coupon_used.

create or replace function internal.refund_coupon_points(p_coupon public.coupons, p_reason text, p_actor text, p_request_id text)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_event_id uuid := internal.uuidv7();
begin
  insert into public.points_events (
         user_id, id, event_type, event_time, points_delta, proof_type, validation_status, validated_by, validation_notes,
         related_entity_type, related_entity_id, request_id, transfer_id)
  values (p_coupon.issued_to, v_event_id, 'coupon_refund', v_now, p_coupon.issued_points_cost, 'manual_admin', 'validated', p_actor,
          p_reason, 'coupon', p_coupon.coupon_id, p_request_id, v_event_id);

  perform internal.move_points(array[
    row(p_coupon.issued_to, v_event_id, p_coupon.issued_points_cost, 0, 'coupon_refund', v_now)::internal.points_move]);
end
$$;

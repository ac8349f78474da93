-- What a refund does to its coupon, however it comes: a procedure's, or the row that an operator's runbook inserts. The
-- points go back when the event is posted; here the coupon is ended, bears the event that gave them back, and was never
-- sold. The coupon's lock lets one refund in, and the next finds it there.
--
-- Locks:   the coupon, then its template's stock.
-- Refuses: coupon_not_found, coupon_refunded, coupon_used, invalid_points, invalid_transition.

create or replace function internal.apply_coupon_refund()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_coupon public.coupons;
  v_ended text;  -- what becomes of a coupon that could still be used
begin
  select c.* into v_coupon
    from public.coupons as c
   where c.coupon_id = new.related_entity_id and c.issued_to = new.user_id and new.related_entity_type = 'coupon'
     for update;
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('related_entity_id: %s is no coupon of %s', new.related_entity_id, new.user_id));
  elsif v_coupon.refunded_at is not null then
    perform internal.refuse('coupon_refunded', format('coupon_id: %s, by event %s', v_coupon.coupon_id, v_coupon.refund_points_event_id));
  elsif v_coupon.status = 'redeemed' then
    perform internal.refuse('coupon_used', format('coupon_id: %s, at %s', v_coupon.coupon_id, v_coupon.redeemed_at));
  elsif new.points_delta <> v_coupon.issued_points_cost then
    perform internal.refuse('invalid_points', format('points_delta: %s, but the coupon cost %s', new.points_delta, v_coupon.issued_points_cost));
  elsif new.validation_status <> 'validated' then
    perform internal.refuse('invalid_transition', format('validation_status: a refund begins as validated, not as %s', new.validation_status));
  end if;

  if v_coupon.status in ('issued', 'held') then
    v_ended := case when v_coupon.expires_at <= v_now then 'expired' else 'revoked' end;
  end if;
  update public.coupons as c
     set status = coalesce(v_ended, c.status), refunded_at = v_now, refund_points_event_id = new.id, updated_at = v_now,
         request_id = coalesce(new.request_id, c.request_id),
         revoked_by = case when v_ended = 'revoked' then coalesce(new.validated_by, session_user) else c.revoked_by end,
         revocation_reason = case when v_ended = 'revoked' then new.validation_notes else c.revocation_reason end
   where c.coupon_id = v_coupon.coupon_id;

  update public.coupon_stock as s
     set issued = s.issued - 1, points = s.points - v_coupon.issued_points_cost
   where s.template_id = v_coupon.template_id;

  perform internal.audit(
    coalesce(new.validated_by, session_user), 'coupon.refunded', 'coupon', v_coupon.coupon_id::text, new.validation_notes,
    jsonb_build_object('status', v_coupon.status, 'refunded_at', null),
    jsonb_build_object('status', coalesce(v_ended, v_coupon.status), 'refunded_at', v_now, 'points_event_id', new.id, 'points', new.points_delta),
    new.request_id);
  return null;
end
$$;

-- After the insert, so that a row that does not come in refunds nothing.
create or replace trigger coupon_refunds_are_applied
after insert on public.points_events
for each row
when (new.event_type = 'coupon_refund')
execute function internal.apply_coupon_refund();

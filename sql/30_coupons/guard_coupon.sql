-- Keeps a coupon's life true, whoever writes it: its status moves only along the listed ways, and nothing leaves redeemed or
-- revoked. The mark of a refund stays, so that there is never a second one. Fills in what a hand leaves out, and writes every
-- revocation down.
--
-- Refuses: coupon_refunded, invalid_transition.

create or replace function internal.guard_coupon()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if old.refunded_at is not null and (old.refunded_at, old.refund_points_event_id) is distinct from (new.refunded_at, new.refund_points_event_id) then
    perform internal.refuse('coupon_refunded', format('coupon_id: %s, by event %s', old.coupon_id, old.refund_points_event_id));
  end if;
  if old.status = new.status then
    return new;
  end if;
  if (old.status, new.status) not in (
       ('issued', 'held'), ('issued', 'redeemed'), ('issued', 'expired'), ('issued', 'revoked'),
       ('held', 'issued'), ('held', 'redeemed'),   ('held', 'expired'),   ('held', 'revoked'),
       ('expired', 'revoked')) then
    perform internal.refuse('invalid_transition', format('coupon %s, from %s to %s', old.coupon_id, old.status, new.status));
  end if;
  if new.status <> 'held' then
    new.held_until := null;
  end if;
  if new.status = 'redeemed' then
    new.redeemed_at := coalesce(new.redeemed_at, internal.clock());
  elsif new.status = 'revoked' then
    new.revoked_at := coalesce(new.revoked_at, internal.clock());
    new.revoked_by := coalesce(new.revoked_by, nullif(current_setting('tallybook.actor', true), ''), session_user);
    new.revocation_reason := coalesce(new.revocation_reason, nullif(current_setting('tallybook.reason', true), ''));
    perform internal.audit(
      new.revoked_by, 'coupon.revoked', 'coupon', new.coupon_id::text, new.revocation_reason,
      jsonb_build_object('status', old.status, 'held_by', case when old.status = 'held' then old.held_by end),
      jsonb_build_object('status', new.status, 'revoked_at', new.revoked_at),
      case when new.request_id is distinct from old.request_id then new.request_id end);
  end if;
  return new;
end
$$;

create or replace trigger coupons_live_as_listed
before update on public.coupons
for each row
when (old.status is distinct from new.status or old.refunded_at is not null)
execute function internal.guard_coupon();

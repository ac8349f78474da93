-- The coupon whose code somebody shows, as it is at this moment, and what they are to it: its owner, at the till of its partner, or
-- a stranger. No row for a code that is none. The service, which brings no user, is the partner's own backend.
--
-- Locks:   the coupon, when asked to.

create or replace function internal.show_coupon(p_user_id uuid, p_code_hashes text[], p_locking boolean)
returns internal.shown_coupon
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_coupon internal.shown_coupon;
begin
  if p_user_id is not null then
    perform internal.act_for(array[p_user_id]);
  end if;
  perform internal.show_codes(p_code_hashes);
  if p_locking then
    -- The next statement sees what whoever held the lock has made of it.
    perform from public.coupons as c where c.code_hash = any (p_code_hashes) for update;
  end if;

  select c.coupon_id,
         case when c.status in ('issued', 'held') and c.expires_at <= v_now then 'expired'
              when c.status = 'held' and c.held_until <= v_now then 'issued'
              else c.status end,
         case when c.issued_to = p_user_id then 'owner'
              when p_user_id is null
                or exists (select from public.partner_members as m where m.user_id = p_user_id and m.partner_id = t.partner_id) then 'partner'
              else 'stranger' end,
         coalesce(p_user_id::text, 'service'),
         case when c.held_until <= v_now then null else c.held_by end, c.hold_key,
         c.held_until, c.redeemed_at, c.redeemed_by, c.redemption_key, c.redemption_terms,
         t.template_name, t.coupon_value_type, t.coupon_value, t.partner_name, c.expires_at
    into v_coupon
    from public.coupons as c
    join public.coupon_templates as t on t.template_id = c.template_id
   where c.code_hash = any (p_code_hashes)
   limit 1;
  return v_coupon;
end
$$;

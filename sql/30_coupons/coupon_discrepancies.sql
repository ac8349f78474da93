-- Where coupons break their limits or lack their payment: the coupons' own part of ledger.discrepancies.

create or replace view internal.coupon_discrepancies
with (security_invoker = true)
as
select 'I6' as invariant, null::uuid as book_id, 'code hash ' || c.code_hash as subject, '1 coupon' as expected, count(*) || ' coupons' as actual
  from public.coupons as c
 group by c.code_hash
having count(*) > 1
union all
-- A limit that is lowered does not condemn what was sold before.
select 'I6', c.issued_to, 'coupons of template ' || c.template_id, 'at most ' || t.max_redemptions_per_user, count(*)::text
  from public.coupons as c
  join public.coupon_templates as t on t.template_id = c.template_id
 group by c.issued_to, c.template_id, t.max_redemptions_per_user, t.updated_at
having count(*) > t.max_redemptions_per_user and max(c.issued_at) > t.updated_at
union all
-- A coupon belongs to whoever paid for it, and what was paid is its price.
select 'I1', c.issued_to, 'coupon ' || c.coupon_id, (-c.issued_points_cost)::text, coalesce(e.points_delta::text, 'no event')
  from public.coupons as c
  left join public.points_events as e on e.user_id = c.issued_to and e.id = c.points_event_id and e.event_type = 'redeem_coupon'
 where e.points_delta is distinct from -c.issued_points_cost or e.related_entity_id is distinct from c.coupon_id
union all
select 'I2', e.user_id, 'redemption ' || e.id, 'a coupon', 'no coupon'
  from public.points_events as e
  left join public.coupons as c on c.coupon_id = e.related_entity_id and c.points_event_id = e.id
 where e.event_type = 'redeem_coupon' and c.coupon_id is null;

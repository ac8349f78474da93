-- Where coupons break their limits, lack their payment or their refund, or are counted wrongly: the coupons' own part of
-- ledger.discrepancies.

create or replace view internal.coupon_discrepancies
with (security_invoker = true)
as
select 'I6' as invariant, null::uuid as book_id, 'code hash ' || c.code_hash as subject, '1 coupon' as expected, count(*) || ' coupons' as actual
  from public.coupons as c
 group by c.code_hash
having count(*) > 1
union all
-- A limit that is lowered does not condemn what was sold before. A refunded coupon was never sold.
select 'I6', c.issued_to, 'coupons of template ' || c.template_id, 'at most ' || t.max_redemptions_per_user, count(*)::text
  from public.coupons as c
  join public.coupon_templates as t on t.template_id = c.template_id
 where c.refunded_at is null
 group by c.issued_to, c.template_id, t.max_redemptions_per_user, t.updated_at
having count(*) > t.max_redemptions_per_user and max(c.issued_at) > t.updated_at
union all
select 'I6', null, 'stock of template ' || coalesce(s.template_id, t.template_id),
       format('%s coupons for %s points', coalesce(n.issued, 0), coalesce(n.points, 0)),
       case when s.template_id is null then 'not counted' else format('%s coupons for %s points', s.issued, s.points) end
  from public.coupon_stock as s
  full join (select x.template_id from public.coupon_templates as x
              where x.max_redemptions is not null or x.budget_points is not null) as t on t.template_id = s.template_id
  left join (select c.template_id, count(*) as issued, sum(c.issued_points_cost) as points
               from public.coupons as c
              where c.refunded_at is null
              group by c.template_id) as n on n.template_id = coalesce(s.template_id, t.template_id)
 where (s.issued, s.points) is distinct from (coalesce(n.issued, 0), coalesce(n.points, 0))
union all
select 'I6', null, 'stock of template ' || t.template_id,
       concat_ws(', ', 'at most ' || t.max_redemptions || ' coupons', 'for ' || t.budget_points || ' points'),
       format('%s coupons for %s points', s.issued, s.points)
  from public.coupon_stock as s
  join public.coupon_templates as t on t.template_id = s.template_id
 where s.issued > greatest(t.max_redemptions, s.issued_before) and t.max_redemptions is not null
    or s.points > greatest(t.budget_points, s.points_before) and t.budget_points is not null
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
 where e.event_type = 'redeem_coupon' and c.coupon_id is null
union all
-- A refunded coupon names the event that gave its price back, and can be used no more.
select 'I1', c.issued_to, 'refund of coupon ' || c.coupon_id, c.issued_points_cost::text, coalesce(e.points_delta::text, 'no event')
  from public.coupons as c
  left join public.points_events as e on e.user_id = c.issued_to and e.id = c.refund_points_event_id and e.event_type = 'coupon_refund'
                                     and e.related_entity_id = c.coupon_id and e.validation_status = 'validated'
 where (c.refunded_at is not null or c.refund_points_event_id is not null)
   and (e.points_delta is distinct from c.issued_points_cost or c.refunded_at is null)
union all
-- Every refund is the one that its coupon names; so a second one is found here.
select 'I2', e.user_id, 'refund ' || e.id, 'its coupon''s only refund', coalesce('coupon names ' || c.refund_points_event_id, 'no coupon names it')
  from public.points_events as e
  left join public.coupons as c on c.coupon_id = e.related_entity_id and c.issued_to = e.user_id
 where e.event_type = 'coupon_refund' and c.refund_points_event_id is distinct from e.id
union all
select 'I6', c.issued_to, 'coupon ' || c.coupon_id,
       case when c.refunded_at is not null then 'ended by its refund' else 'redeemed when it was used' end,
       c.status || coalesce(' at ' || c.redeemed_at, '')
  from public.coupons as c
 where c.refunded_at is not null and c.status not in ('expired', 'revoked')
    or (c.status = 'redeemed') <> (c.redeemed_at is not null);

-- Which coupons sell: what was issued, used and given back of each template.

create or replace function public.report_templates(p_since interval default '30 days')
returns table (template_id uuid, template_name text, is_active boolean, coupons bigint, points bigint, redeemed bigint, refunded bigint)
language sql stable
set search_path = ''
as $$
  select t.template_id, t.template_name, t.is_active, count(c.coupon_id), coalesce(sum(c.issued_points_cost), 0),
         count(*) filter (where c.status = 'redeemed'), count(c.refunded_at)
    from public.coupon_templates as t
    left join public.coupons as c on c.template_id = t.template_id and c.issued_at >= internal.clock() - p_since
   group by t.template_id, t.template_name, t.is_active
   order by 4 desc, t.template_name
$$;

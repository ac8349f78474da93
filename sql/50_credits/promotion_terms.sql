-- What a promotional code would bring to this user now, and whether it may; no row where there is no such code. Whoever
-- redeems it holds internal.lock_credits for the user, so that nobody else counts the same redemption.
-- is_used: redeemed by this user as often as allowed. is_valid: redeemable now by whoever has not used it.

create or replace function internal.promotion_terms(p_user_id uuid, p_code text)
returns table (
  code           text,
  discount_type  text,
  discount_value numeric,
  description    text,
  expires_at     timestamptz,
  redemption     int,
  is_used        boolean,
  is_valid       boolean,
  credits        numeric,
  source         text,
  priority       int,
  lasts_until    timestamptz
)
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
begin
  return query
    select c.code, c.discount_type, c.discount_value::numeric, c.description, c.expires_at,
           r.times + 1, r.times >= c.max_uses_per_user,
           c.is_active and c.valid_from <= v_now and (c.expires_at > v_now) is not false
             and (c.times_used < c.max_uses) is not false and w.credits is not null,
           w.credits,
           case c.discount_type when 'bonus' then 'bonus' else 'promotion' end,
           case c.discount_type when 'bonus' then 50 else 100 end,
           case c.discount_type
             when 'percentage' then coalesce(c.expires_at, v_now + interval '90 days')
             when 'free_month' then v_now + make_interval(months => c.discount_value::int)
             when 'bonus'      then v_now + make_interval(days => coalesce(c.credits_expire_after_days, 30))
             else v_now + make_interval(days => c.credits_expire_after_days) end
      from public.coupon_codes as c
     cross join lateral (
           select coalesce(max(x.redemption), 0) as times
             from public.coupon_redemptions as x
            where x.user_id = p_user_id and x.code = c.code) as r
     cross join lateral (
           -- A tier that gives none, or as many as are used, has no month to give away.
           select case c.discount_type
                    when 'percentage' then 0
                    when 'free_month' then (
                      select nullif(t.monthly_credits, 0) * c.discount_value
                        from public.pricing_tiers as t
                       where t.version = internal.pricing_version()
                         and t.tier = coalesce(c.tier, (select u.tier from public.user_credits as u where u.user_id = p_user_id), 'free'))
                    else c.discount_value end as credits) as w
     where c.code = p_code;
end
$$;

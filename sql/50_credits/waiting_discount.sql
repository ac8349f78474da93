-- The discount that a user's next purchase gets: the largest that waits, and of equals the first to end. No row: none waits.

create or replace function internal.waiting_discount(p_user_id uuid)
returns table (code text, redemption int, percent numeric)
language plpgsql stable
set search_path = ''
as $$
begin
  return query
    select r.code, r.redemption, r.discount_value::numeric
      from public.coupon_redemptions as r
     where r.user_id = p_user_id and r.discount_type = 'percentage' and r.spent_on is null and r.expires_at > internal.clock()
     order by r.discount_value desc, r.expires_at, r.code, r.redemption
     limit 1;
end
$$;

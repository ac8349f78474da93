-- The promotional codes with how each stands, the latest first. Administrators only. p_active: those that can be redeemed
-- now, or the others; null: all. Returns {promotions, total}.
--
-- Replay:  it changes nothing.
-- Locks:   none.
-- Refuses: forbidden.

create or replace function public.list_promotions(
  p_user_id uuid,
  p_active  boolean default null,
  p_limit   int default 50,
  p_offset  int default 0
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform internal.actor(p_user_id);
  return (
    with found as materialized (
      select internal.promotion_answer(c) as promotion, c.created_at, c.code
        from public.coupon_codes as c
    ), wanted as (
      select f.* from found as f where p_active is null or p_active = (f.promotion ->> 'status' = 'active')
    ), page as (
      select w.* from wanted as w
       order by w.created_at desc, w.code
       limit least(greatest(coalesce(p_limit, 50), 1), 200) offset greatest(coalesce(p_offset, 0), 0)
    )
    select jsonb_build_object(
             'promotions', coalesce((select jsonb_agg(p.promotion order by p.created_at desc, p.code) from page as p), '[]'),
             'total', (select count(*) from wanted as w)));
end
$$;

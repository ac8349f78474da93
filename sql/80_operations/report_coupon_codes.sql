-- What must not be with coupons and their codes, each with how many there are: nothing but zeros when all is well.

create or replace function public.report_coupon_codes()
returns table (fault text, coupons bigint)
language sql stable
set search_path = ''
as $$
  select 'without a code hash', count(*) from public.coupons as c where c.code_hash is null
  union all
  select 'with a readable code', count(*) from public.coupons as c where c.plaintext_code is not null
  union all
  select 'sharing a code hash', coalesce(sum(d.coupons), 0)::bigint
    from (select count(*) as coupons from public.coupons as c group by c.code_hash having count(*) > 1) as d
  union all
  select 'paid by one event', coalesce(sum(d.coupons), 0)::bigint
    from (select count(*) as coupons from public.coupons as c group by c.points_event_id having count(*) > 1) as d
$$;

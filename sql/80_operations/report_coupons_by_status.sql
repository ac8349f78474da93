-- The coupons issued of late by what became of them, and what they cost in points.

create or replace function public.report_coupons_by_status(p_since interval default '1 hour')
returns table (status text, count bigint, total_points bigint)
language sql stable
set search_path = ''
as $$
  select c.status, count(*), sum(c.issued_points_cost)
    from public.coupons as c
   where c.issued_at >= internal.clock() - p_since
   group by c.status
   order by c.status
$$;

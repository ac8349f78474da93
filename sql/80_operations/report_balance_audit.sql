-- Users whose cached balance is not the sum of their validated events; empty when all is well. Unlike the query that starts
-- from the cache, it finds users without a cached row.

create or replace function public.report_balance_audit()
returns table (user_id uuid, cached_points bigint, ledger_points bigint, discrepancy bigint)
language sql stable
set search_path = ''
as $$
  select coalesce(c.user_id, e.user_id), c.available_points, coalesce(e.points, 0),
         coalesce(c.available_points, 0) - coalesce(e.points, 0)
    from public.user_points_cache as c
    full join (
         select x.user_id, sum(x.points_delta) as points
           from public.points_events as x
          where x.validation_status = 'validated'
          group by x.user_id) as e on e.user_id = c.user_id
   where coalesce(c.available_points, 0) <> coalesce(e.points, 0)
   order by abs(coalesce(c.available_points, 0) - coalesce(e.points, 0)) desc
$$;

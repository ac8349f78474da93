-- How much was allocated on each day in UTC, the latest first.

create or replace function public.report_allocations_by_day(p_since interval default '30 days')
returns table (date date, allocation_count bigint, total_allocated numeric, tenants_allocated_to bigint)
language sql stable
set search_path = ''
as $$
  select (a.created_at at time zone 'UTC')::date, count(*), sum(a.amount), count(distinct a.tenant_id)
    from public.allocation_logs as a
   where a.created_at >= internal.clock() - p_since
   group by 1
   order by 1 desc
$$;

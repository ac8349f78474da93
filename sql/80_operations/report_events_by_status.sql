-- How many events of late are in which state, and how far they were believed.

create or replace function public.report_events_by_status(p_since interval default '1 hour')
returns table (validation_status text, count bigint, avg_trust_score numeric)
language sql stable
set search_path = ''
as $$
  select e.validation_status, count(*), round(avg(e.trust_score), 2)
    from public.points_events as e
   where e.created_at >= internal.clock() - p_since
   group by e.validation_status
   order by e.validation_status
$$;

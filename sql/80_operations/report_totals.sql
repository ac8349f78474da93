-- Everything there is, in one row. total_points_awarded is the runbook's name for the net sum: what was spent and what
-- expired is taken off. The columns after it tell the parts.

create or replace function public.report_totals()
returns table (total_events bigint, unique_users bigint, total_points_awarded bigint, points_earned bigint, points_spent bigint, points_expired bigint)
language sql stable
set search_path = ''
as $$
  select count(*), count(distinct e.user_id), sum(e.points_delta) filter (where e.validation_status = 'validated'),
         coalesce(sum(e.points_delta) filter (where e.validation_status = 'validated' and e.points_delta > 0), 0),
         coalesce(-sum(e.points_delta) filter (
           where e.validation_status = 'validated' and e.points_delta < 0 and e.event_type <> 'points_expiry'), 0),
         coalesce(-sum(e.points_delta) filter (where e.validation_status = 'validated' and e.event_type = 'points_expiry'), 0)
    from public.points_events as e
$$;

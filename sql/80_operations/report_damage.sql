-- What was decided since a moment, usually a deployment: whom it touched and how many points it moved.

create or replace function public.report_damage(p_since timestamptz)
returns table (affected_users bigint, events bigint, total_points_affected bigint, points_awarded bigint, coupons bigint)
language sql stable
set search_path = ''
as $$
  select count(distinct e.user_id), count(*), sum(e.points_delta),
         coalesce(sum(e.points_delta) filter (where e.points_delta > 0), 0),
         (select count(*) from public.coupons as c where c.issued_at >= p_since)
    from public.points_events as e
   where e.created_at >= p_since and e.validation_status in ('validated', 'rejected')
$$;

-- One user's events, the latest first, a page at a time. The next page begins after the last event of this one, by its time
-- and its id: several events may have one time.

create or replace function public.report_history(
  p_user_id   uuid,
  p_limit     int default 50,
  p_before    timestamptz default 'infinity',
  p_before_id uuid default null
)
returns table (event_time timestamptz, event_type text, points_delta int, validation_status text, trust_score numeric, validated_by text, id uuid)
language sql stable
set search_path = ''
as $$
  select e.event_time, e.event_type, e.points_delta, e.validation_status, e.trust_score, e.validated_by, e.id
    from public.points_events as e
   where e.user_id = p_user_id
     and (e.event_time, e.id) < (p_before, coalesce(p_before_id, '00000000-0000-0000-0000-000000000000'))
   order by e.event_time desc, e.id desc
   limit p_limit
$$;

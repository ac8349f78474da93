-- One user's events, the latest first, a page at a time: the next page begins before the last event_time of this one.

create or replace function public.report_history(p_user_id uuid, p_limit int default 50, p_before timestamptz default 'infinity')
returns table (event_time timestamptz, event_type text, points_delta int, validation_status text, trust_score numeric, validated_by text, id uuid)
language sql stable
set search_path = ''
as $$
  select e.event_time, e.event_type, e.points_delta, e.validation_status, e.trust_score, e.validated_by, e.id
    from public.points_events as e
   where e.user_id = p_user_id and e.event_time < p_before
   order by e.event_time desc
   limit p_limit
$$;

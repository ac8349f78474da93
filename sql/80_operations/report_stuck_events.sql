-- The oldest events that still wait for validation.

create or replace function public.report_stuck_events(p_older_than interval default '1 hour', p_limit int default 10)
returns table (id uuid, user_id uuid, created_at timestamptz, event_type text, trust_score numeric)
language sql stable
set search_path = ''
as $$
  select e.id, e.user_id, e.created_at, e.event_type, e.trust_score
    from public.points_events as e
   where e.validation_status = 'pending' and e.created_at < internal.clock() - p_older_than
   order by e.created_at
   limit p_limit
$$;

-- What each event of a set that is about to be validated is worth now.

create or replace function internal.points_awarded(p_events public.points_events[])
returns table (event_id uuid, streak_days int, points int)
language plpgsql stable
set search_path = ''
as $$
begin
  return query select e.id, null::int, e.points_delta from unnest(p_events) as e;
end
$$;

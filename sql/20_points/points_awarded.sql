-- What each event of a set that is about to be validated is worth now: its points, and where its rule says so, multiplied
-- by the streak. A streak is days in a row, up to the event's own, each with a validated event of the same type about the
-- same thing; the events of the set count for one another. Fractions of a point are dropped.
-- It looks back a day at a time and only as far as the longest streak that pays, so what it costs is the streak's length.

create or replace function internal.points_awarded(p_events public.points_events[])
returns table (event_id uuid, streak_days int, points int)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_days_max int := (select max(m.days_min) from public.streak_multipliers as m);
begin
  return query
  with recursive event as materialized (
    select e.user_id, e.id, e.event_type, coalesce(e.related_entity_id, e.user_id) as entity_id, e.points_delta, g.time_zone,
           (e.event_time at time zone g.time_zone)::date as day,
           r.multiplied_by_streak and e.points_delta > 0 and v_days_max is not null as is_multiplied
      from unnest(p_events) as e
      join public.points_rules as r on r.event_type = e.event_type
      join public.points_programs as g on g.program = r.program
  ), beside as materialized (
    select distinct e.user_id, e.event_type, e.entity_id, e.day from event as e where e.is_multiplied
  ), walk as (
    select e.user_id, e.id, e.event_type, e.entity_id, e.time_zone, e.day, 1 as days from event as e where e.is_multiplied
    union all
    select w.user_id, w.id, w.event_type, w.entity_id, w.time_zone, w.day - 1, w.days + 1
      from walk as w
      left join beside as b
        on b.user_id = w.user_id and b.event_type = w.event_type and b.entity_id = w.entity_id and b.day = w.day - 1
     where w.days < v_days_max
       and (b.day is not null or (
           select true
             from public.points_events as o
            where o.user_id = w.user_id
              and o.event_time >= (w.day - 1)::timestamp at time zone w.time_zone
              and o.event_time < w.day::timestamp at time zone w.time_zone
              and o.event_type = w.event_type
              and coalesce(o.related_entity_id, o.user_id) = w.entity_id
              and o.validation_status = 'validated'
            limit 1))
  ), streak as (
    select w.id, max(w.days) as days from walk as w group by w.id
  )
  select e.id, s.days,
         floor(e.points_delta * coalesce(
           (select m.multiplier from public.streak_multipliers as m where m.days_min <= s.days order by m.days_min desc limit 1), 1))::int
    from event as e
    left join streak as s on s.id = e.id;
end
$$;

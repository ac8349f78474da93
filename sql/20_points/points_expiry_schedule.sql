-- What expires when, if nothing is spent: each user's lots that have an end, the soonest first for whoever orders by it.

create or replace view public.points_expiry_schedule
with (security_invoker = true)
as
select c.user_id, l.expires_at, l.remaining as points, l.program, l.event_id, l.event_type, l.earned_at
  from public.user_points_cache as c
 cross join lateral internal.earned_lots(array[c.user_id]) as l
 where l.remaining > 0 and l.expires_at is not null;

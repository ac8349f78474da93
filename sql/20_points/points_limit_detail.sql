-- Says of the limits that a submission came up against the one that lasts longest, what it is and when there is room again,
-- in the one form that clients' headers are made of: '<policy>: <quota> in <window> s; again in <seconds> s'.
-- Going back from the newest event, the one that fills the quota has to grow older than the window.

create or replace function internal.points_limit_detail(p_user_id uuid, p_event_type text)
returns text
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_rule public.points_rules;
  v_detail text;
begin
  select p.* into v_rule from public.points_rules as p where p.event_type = p_event_type;

  select format('%s: %s in %s s; again in %s s', l.policy, l.quota, l.seconds, w.again) into v_detail
    from public.points_programs as g
   cross join lateral (values
           ('events_per_hour', g.events_per_hour_max, 3600, 1),
           ('events_per_day', g.events_per_day_max, 86400, 1),
           ('events_of_type_per_day', v_rule.daily_max, 86400, 1),
           ('points_per_hour', g.points_per_hour_max, 3600, v_rule.points),
           ('points_per_day', g.points_per_day_max, 86400, v_rule.points)) as l(policy, quota, seconds, needed)
   cross join lateral (
         select max(x.created_at) as filled_at
           from (select e.created_at,
                        sum(case
                              when l.policy not like 'points_%' then 1
                              when e.validation_status <> 'rejected' then e.points_delta
                              else 0 end) over (order by e.created_at desc, e.id desc) as used
                   from public.points_events as e
                   join public.points_rules as r on r.event_type = e.event_type and r.client_submittable and r.program = v_rule.program
                  where e.user_id = p_user_id
                    and e.id >= internal.uuidv7_floor(clock_timestamp() - interval '25 hours')
                    and e.created_at > v_now - make_interval(secs => l.seconds)
                    and e.proof_type <> 'automatic'
                    and (l.policy <> 'events_of_type_per_day' or e.event_type = p_event_type)) as x
          where x.used + l.needed > l.quota) as f
   cross join lateral (
         select greatest(1, ceil(l.seconds - extract(epoch from v_now - coalesce(f.filled_at, v_now))))::int as again) as w
   where g.program = v_rule.program and (f.filled_at is not null or l.needed > l.quota)
   order by w.again desc, l.policy
   limit 1;
  return v_detail;
end
$$;

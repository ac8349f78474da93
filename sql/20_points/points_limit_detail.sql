-- Says of a limit that a submission came up against what it is and when there is room again, in the one form that clients'
-- headers are made of: '<policy>: <quota> in <window> s; again in <seconds> s'.
-- Going back from the newest event, the one that fills the quota has to grow older than the window.

create or replace function internal.points_limit_detail(p_user_id uuid, p_event_type text, p_policy text)
returns text
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_seconds int := case when p_policy like '%_per_hour' then 3600 else 86400 end;
  v_rule public.points_rules;
  v_quota int;
  v_needed int;
  v_filled_at timestamptz;
begin
  select p.* into v_rule from public.points_rules as p where p.event_type = p_event_type;
  select case p_policy
           when 'events_per_hour' then g.events_per_hour_max
           when 'events_per_day' then g.events_per_day_max
           when 'points_per_hour' then g.points_per_hour_max
           when 'points_per_day' then g.points_per_day_max
           else v_rule.daily_max end
    into v_quota
    from public.points_programs as g
   where g.program = v_rule.program;
  v_needed := case when p_policy like 'points_%' then v_rule.points else 1 end;

  select max(x.created_at) into v_filled_at
    from (select e.created_at,
                 sum(case
                       when p_policy not like 'points_%' then 1
                       when e.validation_status <> 'rejected' then e.points_delta
                       else 0 end) over (order by e.created_at desc, e.id desc) as used
            from public.points_events as e
            join public.points_rules as r on r.event_type = e.event_type and r.client_submittable and r.program = v_rule.program
           where e.user_id = p_user_id
             and e.id >= internal.uuidv7_floor(clock_timestamp() - interval '25 hours')
             and e.created_at > v_now - make_interval(secs => v_seconds)
             and e.proof_type <> 'automatic'
             and (p_policy <> 'events_of_type_per_day' or e.event_type = p_event_type)) as x
   where x.used + v_needed > v_quota;
  return format('%s: %s in %s s; again in %s s', p_policy, v_quota, v_seconds,
    greatest(1, ceil(v_seconds - extract(epoch from v_now - coalesce(v_filled_at, v_now))))::int);
end
$$;

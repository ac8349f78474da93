-- What would have been decided with other thresholds or other rules: asks the judge again, with what was known of each event
-- when it was judged, and tells who would change. Writes nothing, so that an answer comes before an update.
-- p_rules changes rules for the time of the question: [{"rule_id", "weight"?, "parameters"?, "mode"?}]; all others are as
-- they are now, and so is what is not given of the active policy. The span is of the times of judgement, p_until excluded.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: unavailable, when no trust policy is active; invalid_body: thresholds, rules.

create or replace function public.backtest_trust(
  p_validate_at int default null,
  p_review_at   int default null,
  p_rules       jsonb default null,
  p_since       timestamptz default null,
  p_until       timestamptz default null
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set enable_hashagg = off  -- sets go through one after the other, and not all at once through memory
set work_mem = '64MB'
as $$
declare
  v_policy public.trust_policies;
  v_rules public.trust_rules[];
  v_sets int;
  v_answer jsonb;
begin
  select p.* into v_policy from public.trust_policies as p where p.is_active;
  if v_policy.policy_id is null then
    perform internal.refuse('unavailable', 'there is no active trust policy');
  end if;
  v_policy.validate_at := coalesce(p_validate_at, v_policy.validate_at);
  v_policy.review_at := coalesce(p_review_at, v_policy.review_at);
  if not (0 <= v_policy.review_at and v_policy.review_at <= v_policy.validate_at and v_policy.validate_at <= 100) then
    perform internal.refuse('invalid_body', format('%s: 0 <= review_at <= validate_at <= 100 must hold, and not %s and %s',
      case when p_validate_at is null then 'review_at' else 'validate_at' end, v_policy.review_at, v_policy.validate_at));
  end if;
  v_rules := internal.changed_trust_rules(p_rules);

  select 1 + count(*) / 10000 into v_sets
    from public.trust_assessments as a
   where (p_since is null or a.assessed_at >= p_since) and (p_until is null or a.assessed_at < p_until);

  with judged as (
    select j.user_id, j.event_id, j.verdict
      from (select array_agg(row(a.user_id, a.event_id, a.features)::internal.points_assessed) as assessed
              from public.trust_assessments as a
             where (p_since is null or a.assessed_at >= p_since) and (p_until is null or a.assessed_at < p_until)
             group by abs(hashtext(a.event_id::text)::bigint) % v_sets) as s
     cross join lateral internal.judge_points_events(s.assessed, v_policy, v_rules) as j
  ), compared as (
    select j.user_id, j.event_id, a.verdict as before, j.verdict as after
      from judged as j
      join public.trust_assessments as a on a.user_id = j.user_id and a.event_id = j.event_id
  ), changed as (
    select e.event_type, c.before, c.after, count(*) as events, count(distinct c.user_id) as users, sum(e.points_delta) as points,
           coalesce(sum(e.points_delta) filter (where c.after = 'validated'), 0)
             - coalesce(sum(e.points_delta) filter (where c.before = 'validated'), 0) as difference
      from compared as c
      join public.points_events as e on e.user_id = c.user_id and e.id = c.event_id
     where c.before <> c.after
     group by e.event_type, c.before, c.after
  )
  select jsonb_build_object(
           'policy', jsonb_build_object('policy_id', v_policy.policy_id, 'base_score', v_policy.base_score,
             'validate_at', v_policy.validate_at, 'review_at', v_policy.review_at),
           'since', p_since, 'until', p_until,
           'assessed', (select count(*) from compared),
           'changed', coalesce(sum(c.events), 0),
           'by_event_type', coalesce(jsonb_agg(jsonb_build_object(
             'event_type', c.event_type, 'from', c.before, 'to', c.after,
             'events', c.events, 'users', c.users, 'points', c.points)
             order by c.event_type, c.before, c.after), '[]'),
           'points_change', coalesce(sum(c.difference), 0))
    into v_answer
    from changed as c;
  return v_answer;
end
$$;

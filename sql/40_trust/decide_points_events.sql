-- Decides the events of a set: judges them by the active policy, posts the points of what is validated, and writes down
-- what was found. The caller has locked the events, and they are pending.
--
-- Replay:  none of its own: a decided event is not pending any more.
-- Locks:   new rows of device_users, accounts and cache rows, each in order.
-- Refuses: unavailable, when no trust policy is active.

create or replace function internal.decide_points_events(p_events public.points_events[])
returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_policy public.trust_policies;
  v_rules public.trust_rules[];
  v_judged internal.points_judged[];
  v_moves internal.points_move[];
  v_streaks int[];
  v_refused uuid[];
  v_answer jsonb;
begin
  select p.* into v_policy from public.trust_policies as p where p.is_active;
  if v_policy.policy_id is null then
    perform internal.refuse('unavailable', 'there is no active trust policy');
  end if;
  v_rules := array(select r from public.trust_rules as r where r.mode <> 'off');

  -- First, so that the events of one set see each other's devices; each with the time at which it came into sight.
  insert into public.device_users as d (device_id, user_id, first_seen_at)
  select e.device_id, e.user_id, min(e.created_at)
    from unnest(p_events) as e
   where e.device_id is not null
   group by e.device_id, e.user_id
   order by e.device_id, e.user_id
  on conflict (device_id, user_id) do nothing;

  v_judged := array(
    select j from internal.judge_points_events(array(
      select f from internal.points_event_features(p_events) as f), v_policy, v_rules) as j);

  -- What goes to review keeps waiting and moves nothing. What is validated earns what it is worth now, and what waited
  -- is what it was worth when it was sent. What takes more than there is, which only a hand can have asked for, is for a
  -- person to look at as well.
  select array_agg(m.move), array_agg(m.streak_days) into v_moves, v_streaks
    from (
      select row(e.user_id, e.id, case when j.verdict = 'validated' then coalesce(w.points, e.points_delta) else 0 end,
                 -e.points_delta, e.event_type, e.event_time)::internal.points_move as move,
             w.streak_days
        from unnest(v_judged) as j
        join unnest(p_events) as e on e.id = j.event_id
        left join internal.points_awarded(array(
               select e from unnest(v_judged) as j join unnest(p_events) as e on e.id = j.event_id
                where j.verdict = 'validated' order by e.id)) as w on w.event_id = j.event_id
       where j.verdict <> 'pending_review'
       order by e.id) as m;
  v_refused := array(
    select o.transfer_id from internal.move_points(v_moves) as o where o.outcome = 'insufficient_funds');

  with judged as materialized (
    select j.*, m.points, m.streak_days,
           case when j.event_id = any (v_refused) then 'pending_review' else j.verdict end as outcome
      from unnest(v_judged) as j
      left join unnest(v_moves, v_streaks) as m(user_id, event_id, points, pending, kind, effective_at, streak_days)
        on m.event_id = j.event_id
  ), decided as (
    update public.points_events as e
       set validation_status = j.outcome, trust_score = j.trust_score,
           points_delta = case when j.outcome = 'validated' then j.points else e.points_delta end,
           streak_days = case when j.outcome = 'validated' then j.streak_days end,
           transfer_id = case when j.outcome = 'validated' and j.points <> 0 then j.event_id end,
           validated_at = case when j.outcome = 'validated' then v_now end,
           validated_by = case when j.outcome = 'validated' then 'system' end,
           updated_at = v_now
      from judged as j
     where e.user_id = j.user_id and e.id = j.event_id
    returning e.id, e.user_id, e.validation_status, e.points_delta, e.trust_score
  ), assessed as (
    insert into public.trust_assessments as a (
           user_id, event_id, policy_id, policy_version, trust_score, verdict, features, hits, assessed_at)
    select j.user_id, j.event_id, v_policy.policy_id, v_policy.version, j.trust_score, j.verdict, j.features, j.hits, v_now
      from judged as j
    on conflict (event_id, user_id) do update  -- an operator may send an event back to where it waits
       set policy_id = excluded.policy_id, policy_version = excluded.policy_version, trust_score = excluded.trust_score,
           verdict = excluded.verdict, features = excluded.features, hits = excluded.hits, assessed_at = excluded.assessed_at
  ), suspected as (
    insert into public.fraud_insights as f (user_id, insight_type, severity, score, details, related_event_ids)
    select j.user_id, j.insight_type, j.severity, j.trust_score,
           jsonb_build_object('rules', j.hits, 'validate_at', v_policy.validate_at, 'review_at', v_policy.review_at)
             || case when j.features ? 'list' then jsonb_build_object('list', jsonb_build_object(
                  'list', j.features -> 'list', 'subject_type', j.features -> 'list_subject',
                  'reason', j.features -> 'list_reason'))
                else '{}' end,
           array[j.event_id]
      from judged as j
     where j.outcome <> 'validated'
    returning f.user_id, f.insight_type, f.severity, f.score
  )
  select jsonb_build_object(
           'validated', count(*) filter (where d.validation_status = 'validated'),
           'pending_review', count(*) filter (where d.validation_status = 'pending_review'),
           'rejected', count(*) filter (where d.validation_status = 'rejected'),
           'flagged', 0,
           'events', jsonb_agg(jsonb_build_object(
             'event_id', d.id, 'user_id', d.user_id, 'validation_status', d.validation_status, 'trust_score', d.trust_score,
             'points_awarded', case when d.validation_status = 'validated' then d.points_delta else 0 end) order by d.id),
           'insights', (
             select coalesce(jsonb_agg(to_jsonb(f)), '[]') from suspected as f))
    into v_answer
    from decided as d;
  return v_answer;
end
$$;

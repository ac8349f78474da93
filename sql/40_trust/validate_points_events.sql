-- Decides pending events: scores them, validates, sends to review or rejects, and posts the points of what it validates.
-- Takes the oldest p_limit, or the one that is named. Several workers share the queue without waiting for one another.
--
-- Replay:  a decided event is not pending any more; a second run finds others or none.
-- Locks:   the events, skipping those another worker has; then accounts and cache rows, each in order.
-- Refuses: unavailable, when no trust policy is active; event_not_found, when one is named and is not pending.

create or replace function public.validate_points_events(p_event_id uuid default null, p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_events public.points_events[];
  v_scores internal.points_score[];
  v_refused uuid[];
  v_answer jsonb;
begin
  if not exists (select from public.trust_policies as p where p.is_active) then
    perform internal.refuse('unavailable', 'there is no active trust policy');
  end if;

  if p_event_id is null then
    select array_agg(c.event) into v_events
      from (select e as event
              from public.points_events as e
             where e.validation_status = 'pending' and e.transfer_id is null
             order by e.id
             limit p_limit
               for update skip locked) as c;
  else
    select array_agg(c.event) into v_events
      from (select e as event
              from public.points_events as e
             where e.validation_status = 'pending' and e.transfer_id is null and e.id = p_event_id
               for update) as c;
    if v_events is null then
      perform internal.refuse('event_not_found', format('event_id: %s is not pending', p_event_id));
    end if;
  end if;

  if v_events is null then
    return '{"validated": 0, "pending_review": 0, "rejected": 0, "events": [], "insights": []}'::jsonb;
  end if;

  select array_agg(s) into v_scores from internal.score_points_events(v_events) as s;

  -- What goes to review keeps waiting and moves nothing. What takes more than there is, which only a hand can have
  -- asked for, is for a person to look at as well.
  v_refused := array(
    select m.transfer_id
      from internal.move_points(array(
             select row(s.user_id, s.event_id, case when s.verdict = 'validated' then s.points_delta else 0 end,
                        -s.points_delta, s.event_type, s.event_time)::internal.points_move
               from unnest(v_scores) as s
              where s.verdict <> 'pending_review'
              order by s.event_id)) as m
     where m.outcome = 'insufficient_funds');

  with judged as materialized (
    select s.*, case when s.event_id = any (v_refused) then 'pending_review' else s.verdict end as outcome
      from unnest(v_scores) as s
  ), decided as (
    update public.points_events as e
       set validation_status = j.outcome, trust_score = j.trust_score,
           transfer_id = case when j.outcome = 'validated' and j.points_delta <> 0 then j.event_id end,
           validated_at = case when j.outcome = 'validated' then v_now end,
           validated_by = case when j.outcome = 'validated' then 'system' end,
           updated_at = v_now
      from judged as j
     where e.user_id = j.user_id and e.id = j.event_id
    returning e.id, e.user_id, e.validation_status, e.points_delta, e.trust_score
  ), suspected as (
    insert into public.fraud_insights as f (user_id, insight_type, severity, score, details, related_event_ids)
    select j.user_id, j.insight_type, case when j.outcome = 'rejected' then 'high' else 'medium' end, j.trust_score,
           j.details, array[j.event_id]
      from judged as j
     where j.outcome <> 'validated'
    returning f.user_id, f.insight_type, f.severity, f.score
  )
  select jsonb_build_object(
           'validated', count(*) filter (where d.validation_status = 'validated'),
           'pending_review', count(*) filter (where d.validation_status = 'pending_review'),
           'rejected', count(*) filter (where d.validation_status = 'rejected'),
           'events', coalesce(jsonb_agg(jsonb_build_object(
             'event_id', d.id, 'user_id', d.user_id, 'validation_status', d.validation_status, 'trust_score', d.trust_score,
             'points_awarded', case when d.validation_status = 'validated' then d.points_delta else 0 end)), '[]'),
           'insights', (
             select coalesce(jsonb_agg(to_jsonb(f)), '[]') from suspected as f))
    into v_answer
    from decided as d;
  return v_answer;
end
$$;

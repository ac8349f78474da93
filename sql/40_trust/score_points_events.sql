-- How far each event is believed, 0 to 100, which rules brought it there with what they saw, and what follows.
-- Spacing goes by the events' own times and looks only at what the user sent before: of two that lie too close,
-- the later to arrive is the suspect.

create or replace function internal.score_points_events(p_events public.points_events[])
returns setof internal.points_score
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  return query
  select e.user_id, e.id, e.event_type, e.event_time, e.points_delta, s.score,
         case when s.score >= p.validate_at then 'validated' when s.score >= p.review_at then 'pending_review' else 'rejected' end,
         coalesce(h.insight_type, 'low_trust_score'),
         jsonb_build_object('rules', coalesce(h.hits, '[]'), 'validate_at', p.validate_at, 'review_at', p.review_at)
    from unnest(p_events) as e
   cross join (select t.* from public.trust_policies as t where t.is_active) as p
   cross join lateral (
         select min(abs(extract(epoch from o.event_time - e.event_time))) as seconds_to_nearest_event
           from public.points_events as o
           join public.points_rules as r on r.event_type = o.event_type and r.client_submittable
          where o.user_id = e.user_id
            and o.event_time between e.event_time - interval '1 minute' and e.event_time + interval '1 minute'
            and (o.id < e.id) is true) as f  -- "is true" keeps the planner from going by the id instead of the time
    left join lateral (
         select sum(t.weight) filter (where t.mode = 'enforce') as weight,
                jsonb_agg(jsonb_build_object('rule', t.rule_id, 'mode', t.mode, 'weight', t.weight, 'below', t.below,
                  'observed', round(f.seconds_to_nearest_event, 3)) order by t.weight) as hits,
                (array_agg(t.insight_type order by t.weight) filter (where t.mode = 'enforce'))[1] as insight_type
           from public.trust_rules as t
          where t.mode <> 'off' and f.seconds_to_nearest_event < t.below) as h on true
   cross join lateral (select greatest(0, least(100, p.base_score + coalesce(h.weight, 0)))::int as score) as s;
end
$$;

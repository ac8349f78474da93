-- How far each event is believed, 0 to 100, and which rules brought it there with what they saw.
-- Spacing goes by the events' own times and looks only at what the user sent before: of two that lie too close,
-- the later to arrive is the suspect.

create or replace function internal.score_points_events(p_events public.points_events[])
returns table (event_id uuid, trust_score int, hits jsonb, insight_type text)
language sql stable
set search_path = ''
as $$
  select e.id,
         greatest(0, least(100, p.base_score + coalesce(h.weight, 0)))::int,
         coalesce(h.hits, '[]'),
         coalesce(h.insight_type, 'low_trust_score')
    from unnest(p_events) as e
   cross join (select t.base_score from public.trust_policies as t where t.is_active) as p
   cross join lateral (
         select min(abs(extract(epoch from o.event_time - e.event_time))) as seconds_to_nearest_event
           from public.points_events as o
           join public.points_rules as r on r.event_type = o.event_type and r.client_submittable
          where o.user_id = e.user_id
            and o.event_time between e.event_time - interval '1 minute' and e.event_time + interval '1 minute'
            and o.id < e.id) as f
    left join lateral (
         select sum(t.weight) filter (where t.mode = 'enforce') as weight,
                jsonb_agg(jsonb_build_object('rule', t.rule_id, 'mode', t.mode, 'weight', t.weight, 'below', t.below,
                  'observed', round(f.seconds_to_nearest_event, 3)) order by t.weight) as hits,
                (array_agg(t.insight_type order by t.weight) filter (where t.mode = 'enforce'))[1] as insight_type
           from public.trust_rules as t
          where t.mode <> 'off' and f.seconds_to_nearest_event < t.below) as h on true
$$;

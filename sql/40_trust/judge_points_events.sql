-- The one judge: from what is known of each event, by the given policy and rules, a score of 0 to 100 and what follows.
-- It reads nothing, so that a backtest asks the very same judge with other rules.
--
-- The score is the policy's base and the weights of the enforced rules that hit. A denied subject scores 0, an allowed one
-- 100, and a watched one never enough to be validated. Each hit tells the rule, its version, what it saw and the threshold.

create or replace function internal.judge_points_events(
  p_assessed internal.points_assessed[],
  p_policy   public.trust_policies,
  p_rules    public.trust_rules[]
)
returns setof internal.points_judged
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  with rule as materialized (
    select r.feature, (r.parameters ->> 'below')::numeric as below, (r.parameters ->> 'at_least')::numeric as at_least,
           r.rule_id, r.weight, r.insight_type, r.severity, r.mode = 'enforce' as counts,
           jsonb_build_object('rule', r.rule_id, 'version', r.version, 'mode', r.mode, 'weight', r.weight) || r.parameters as said
      from unnest(p_rules) as r
     where r.mode <> 'off'
  )
  select a.user_id, a.event_id, a.features, s.score,
         case when s.score >= p_policy.validate_at then 'validated'
              when s.score >= p_policy.review_at then 'pending_review' else 'rejected' end,
         case when a.features ->> 'list' = 'deny' then 'manual_flag'
              when h.worst is not null then h.worst
              when a.features ->> 'list' = 'watch' then 'manual_flag' else 'low_trust_score' end,
         case when a.features ->> 'list' = 'deny' then 'critical'
              else coalesce(h.severity, case when s.score >= p_policy.review_at then 'medium' else 'high' end) end,
         coalesce(h.hits, '[]')
    from unnest(p_assessed) as a
   cross join lateral (
         select sum(r.weight) filter (where r.counts) as weight,
                jsonb_agg(r.said || jsonb_build_object('observed', round(v.observed, 3)) order by r.weight, r.rule_id) as hits,
                (array_agg(r.insight_type order by r.weight, r.rule_id) filter (where r.counts and r.weight < 0))[1] as worst,
                (array_agg(r.severity order by r.weight, r.rule_id) filter (where r.counts and r.weight < 0))[1] as severity
           from rule as r
          cross join lateral (select (a.features ->> r.feature)::numeric as observed) as v
          where (r.below is null or v.observed < r.below) and (r.at_least is null or v.observed >= r.at_least)) as h
   cross join lateral (
         select greatest(0, least(100, p_policy.base_score + coalesce(h.weight, 0)))::int as by_rules) as b
   cross join lateral (
         select case a.features ->> 'list'
                  when 'deny' then 0
                  when 'allow' then 100
                  when 'watch' then greatest(0, least(b.by_rules, p_policy.validate_at - 1))
                  else b.by_rules end as score) as s;
end
$$;

-- How often each version of a rule that speaks against events was right, as far as people have said: of the events it hit
-- and somebody labelled, the share that was fraud. A rule in the shadow is counted like any other; that is what it is for.

create or replace view public.trust_rule_precision
with (security_invoker = true)
as
select h.rule_id, h.version, count(*) as hits,
       count(*) filter (where n.label = 'confirmed_fraud') as confirmed_fraud,
       count(*) filter (where n.label = 'false_positive') as false_positive,
       round(count(*) filter (where n.label = 'confirmed_fraud')::numeric / nullif(count(n.label), 0), 3) as precision
  from public.trust_assessments as a
 cross join lateral jsonb_to_recordset(a.hits) as r(rule text, version int, weight int)
 cross join lateral (select r.rule, r.version) as h(rule_id, version)
  left join (
       select distinct on (x.event_id) x.event_id, x.label
         from public.points_review_notes as x
        where x.label is not null
        order by x.event_id, x.note_id desc) as n on n.event_id = a.event_id
 where r.weight < 0
 group by h.rule_id, h.version;

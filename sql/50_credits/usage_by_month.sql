-- Everybody's usage by month and model, exact at any moment: what was folded into the totals, and what was not yet.
-- What an event did not tell is the empty text.

create or replace view internal.usage_by_month
with (security_invoker = true)
as
select u.month, u.provider, u.model, u.power_level, sum(u.events)::bigint as events, sum(u.failures)::bigint as failures,
       sum(u.tokens) as tokens, sum(u.cost) as cost, sum(u.refunded) as refunded
  from (select t.month, t.provider, t.model, t.power_level, t.events, t.failures, t.tokens, t.cost, t.refunded
          from internal.usage_totals as t
        union all
        select d.month, d.provider, d.model, d.power_level, d.events, d.failures, d.tokens, d.cost, d.refunded
          from internal.usage_deltas as d) as u
 group by u.month, u.provider, u.model, u.power_level;

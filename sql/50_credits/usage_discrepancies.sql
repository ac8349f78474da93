-- Where the sums of usage are not what the events and the refunds say: each user's rollup, and everybody's sums, which are
-- those of all the rollups. Both ways: a sum without events is as wrong as events without a sum.

create or replace view internal.usage_discrepancies
with (security_invoker = true)
as
select 'I3' as invariant, coalesce(r.user_id, e.user_id) as book_id,
       'usage of ' || concat_ws(' ', to_char(coalesce(r.month, e.month), 'YYYY-MM'), coalesce(r.provider, e.provider),
         coalesce(r.model, e.model), coalesce(r.power_level, e.power_level)) as subject,
       case when e.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         e.events, e.failures, e.tokens, e.cost, e.refunded) end as expected,
       case when r.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         r.events, r.failures, r.tokens, r.cost, r.refunded) end as actual
  from public.usage_rollups as r
  full join (
       select x.user_id, date_trunc('month', x.created_at at time zone 'UTC')::date as month, coalesce(x.provider, '') as provider,
              coalesce(x.model, '') as model, coalesce(x.power_level, '') as power_level, count(*) as events,
              count(*) filter (where not x.success) as failures, sum(x.tokens_used) as tokens, sum(x.cost) as cost,
              sum(coalesce(t.refunded, 0)) as refunded
         from public.usage_events as x
         left join (select y.user_id, y.refund_of, sum(y.amount) as refunded
                      from public.credit_transactions as y
                     where y.refund_of is not null
                     group by y.user_id, y.refund_of) as t on t.user_id = x.user_id and t.refund_of = x.transaction_id
        group by 1, 2, 3, 4, 5) as e
    on e.user_id = r.user_id and e.month = r.month and e.provider = r.provider and e.model = r.model and e.power_level = r.power_level
 where array[r.events, r.failures, r.tokens, r.cost, r.refunded]
       is distinct from array[e.events, e.failures, e.tokens, e.cost, e.refunded]
union all
select 'I3', null::uuid,
       'everybody''s usage of ' || concat_ws(' ', to_char(coalesce(m.month, r.month), 'YYYY-MM'), coalesce(m.provider, r.provider),
         coalesce(m.model, r.model), coalesce(m.power_level, r.power_level)),
       case when r.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         r.events, r.failures, r.tokens, r.cost, r.refunded) end,
       case when m.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         m.events, m.failures, m.tokens, m.cost, m.refunded) end
  from internal.usage_by_month as m
  full join (
       select x.month, x.provider, x.model, x.power_level, sum(x.events) as events, sum(x.failures) as failures, sum(x.tokens) as tokens,
              sum(x.cost) as cost, sum(x.refunded) as refunded
         from public.usage_rollups as x
        group by 1, 2, 3, 4) as r
    on r.month = m.month and r.provider = m.provider and r.model = m.model and r.power_level = m.power_level
 where array[m.events, m.failures, m.tokens, m.cost, m.refunded]
       is distinct from array[r.events, r.failures, r.tokens, r.cost, r.refunded];

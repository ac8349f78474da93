-- Who spends unusually much: users whose usage of the last 24 hours cost at least 10 credits, and at least three times as
-- much as a day of theirs did on average in the 30 days before; `times` is null where those cost nothing.

create or replace view public.credit_unusual_spending
with (security_invoker = true)
as
select d.user_id, d.spent, d.events, round(b.spent / 30, 6) as daily_mean, round(d.spent / nullif(b.spent / 30, 0), 1) as times
  from (select e.user_id, sum(e.cost) as spent, count(*) as events
          from public.usage_events as e
         where e.created_at > internal.clock() - interval '24 hours' and e.created_at <= internal.clock()
         group by e.user_id
        having sum(e.cost) >= 10) as d
 cross join lateral (
       select coalesce(sum(e.cost), 0) as spent
         from public.usage_events as e
        where e.user_id = d.user_id and e.created_at > internal.clock() - interval '31 days'
          and e.created_at <= internal.clock() - interval '24 hours') as b
 where d.spent >= 3 * b.spent / 30;

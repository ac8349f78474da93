-- Which models fail: those that failed at least five times in the last hour, and at least three times as often as in an
-- hour of the day before, on average; `times` is null where none failed then. `events` is all their uses of the last hour. What
-- was refused is written down nowhere, so it is not in here: the functions' metrics count it.

create or replace view public.credit_failure_spikes
with (security_invoker = true)
as
select f.provider, f.model, f.failures, a.events, round(f.failures_before / 24.0, 2) as hourly_mean,
       round(f.failures / nullif(f.failures_before / 24.0, 0), 1) as times, f.last_at
  from (select e.provider, e.model, max(e.created_at) as last_at,
               count(*) filter (where e.created_at > internal.clock() - interval '1 hour') as failures,
               count(*) filter (where e.created_at <= internal.clock() - interval '1 hour') as failures_before
          from public.usage_events as e
         where not e.success and e.created_at > internal.clock() - interval '25 hours' and e.created_at <= internal.clock()
         group by e.provider, e.model) as f
 cross join lateral (
       select count(*) as events
         from public.usage_events as e
        where e.created_at > internal.clock() - interval '1 hour' and e.created_at <= internal.clock()
          and e.provider is not distinct from f.provider and e.model is not distinct from f.model) as a
 where f.failures >= 5 and f.failures >= 3 * f.failures_before / 24.0;

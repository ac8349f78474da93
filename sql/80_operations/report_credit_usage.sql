-- What was used by month and model, by default since the month before the running one; the dearest of a month first.

create or replace function public.report_credit_usage(p_since interval default '1 month')
returns table (month date, provider text, model text, events bigint, failures bigint, tokens numeric, cost numeric, refunded numeric)
language sql stable
set search_path = ''
as $$
  select u.month, nullif(u.provider, ''), nullif(u.model, ''), sum(u.events)::bigint, sum(u.failures)::bigint, sum(u.tokens), sum(u.cost),
         sum(u.refunded)
    from internal.usage_by_month as u
   where u.month >= date_trunc('month', (internal.clock() - p_since) at time zone 'UTC')::date
   group by u.month, u.provider, u.model
   order by u.month desc, 7 desc, 3, 2
$$;

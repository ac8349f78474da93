-- Which models fail more often than they did, the worst first.

create or replace function public.report_credit_failure_spikes()
returns table (provider text, model text, failures bigint, events bigint, hourly_mean numeric, times numeric, last_at timestamptz)
language sql stable
set search_path = ''
as $$
  select v.provider, v.model, v.failures, v.events, v.hourly_mean, v.times, v.last_at
    from public.credit_failure_spikes as v
   order by v.failures desc, v.model, v.provider
$$;

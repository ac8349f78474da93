-- Is the worker keeping up? What waits, what has waited for over an hour (should be under 100), and what comes in.

create or replace function public.report_queue()
returns table (pending bigint, pending_review bigint, stale_pending bigint, oldest_pending timestamptz, events_last_hour bigint, open_insights bigint)
language sql stable
set search_path = ''
as $$
  select (select count(*) from public.points_events as e where e.validation_status = 'pending'),
         (select count(*) from public.points_events as e where e.validation_status = 'pending_review'),
         (select count(*) from public.points_events as e
           where e.validation_status = 'pending' and e.created_at < internal.clock() - interval '1 hour'),
         (select min(e.created_at) from public.points_events as e where e.validation_status = 'pending'),
         (select count(*) from public.points_events as e where e.created_at >= internal.clock() - interval '1 hour'),
         (select count(*) from public.fraud_insights as f where not f.resolved)
$$;

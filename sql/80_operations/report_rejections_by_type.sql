-- What share of the events of late was rejected, in percent, by event type.

create or replace function public.report_rejections_by_type(p_since interval default '1 hour')
returns table (event_type text, rejected bigint, total bigint, reject_rate numeric)
language sql stable
set search_path = ''
as $$
  select e.event_type, count(*) filter (where e.validation_status = 'rejected'), count(*),
         round(100.0 * count(*) filter (where e.validation_status = 'rejected') / count(*), 2)
    from public.points_events as e
   where e.created_at >= internal.clock() - p_since
   group by e.event_type
   order by 4 desc, e.event_type
$$;

-- What fraud was suspected of late, and how long it took to settle.

create or replace function public.report_insights_by_type(p_since interval default '24 hours')
returns table (insight_type text, severity text, count bigint, avg_score numeric, open bigint, avg_hours_to_resolve numeric)
language sql stable
set search_path = ''
as $$
  select f.insight_type, f.severity, count(*), round(avg(f.score), 2), count(*) filter (where not f.resolved),
         round(avg(extract(epoch from f.resolved_at - f.created_at) / 3600) filter (where f.resolved), 2)
    from public.fraud_insights as f
   where f.created_at >= internal.clock() - p_since
   group by f.insight_type, f.severity
   order by 3 desc, f.insight_type, f.severity
$$;

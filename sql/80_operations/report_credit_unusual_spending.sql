-- Who spent unusually much in the last 24 hours, the most first.

create or replace function public.report_credit_unusual_spending(p_limit int default 50)
returns table (user_id uuid, spent numeric, events bigint, daily_mean numeric, times numeric)
language sql stable
set search_path = ''
as $$
  select v.user_id, v.spent, v.events, v.daily_mean, v.times
    from public.credit_unusual_spending as v
   order by v.spent desc, v.user_id
   limit p_limit
$$;

-- What users have by tier: their credits, all that ever came, and how many of them run low.

create or replace function public.report_credit_balances()
returns table (tier text, count bigint, balance numeric, allocated numeric, median_balance numeric, low bigint, owing bigint)
language sql stable
set search_path = ''
as $$
  select c.tier, count(*), sum(c.balance), sum(c.credits_allocated), percentile_disc(0.5) within group (order by c.balance),
         count(l.user_id), count(*) filter (where c.balance < 0)
    from public.user_credits as c
    left join public.credit_low_balances as l on l.user_id = c.user_id
   group by c.tier
   order by 2 desc, c.tier
$$;

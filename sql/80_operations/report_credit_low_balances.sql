-- Whose credits run low, the lowest first.

create or replace function public.report_credit_low_balances(p_limit int default 50)
returns table (user_id uuid, tier text, balance numeric, low_balance_below numeric, updated_at timestamptz)
language sql stable
set search_path = ''
as $$
  select v.user_id, v.tier, v.balance, v.low_balance_below, v.updated_at
    from public.credit_low_balances as v
   order by v.balance, v.user_id
   limit p_limit
$$;

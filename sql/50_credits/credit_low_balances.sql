-- Whose credits run low: users who had credits once, whose balance changed in the last 30 days and is under what their tier
-- calls low. Who never had any, who left long ago and who may owe is not warned. What is reserved is in the balance: it may
-- come back.

create or replace view public.credit_low_balances
with (security_invoker = true)
as
select c.user_id, c.tier, c.balance, t.low_balance_below, c.updated_at
  from public.user_credits as c
  join public.pricing_tiers as t on t.tier = c.tier and t.version = (
       select v.version from public.pricing_versions as v
        where v.effective_from <= internal.clock() order by v.effective_from desc limit 1)
 where c.balance < t.low_balance_below and c.credits_allocated > 0 and t.monthly_credits is not null
   and c.updated_at > (select internal.clock()) - interval '30 days';

-- The tiers, from the smallest to the largest: what each adds to a price, gives every month and keeps for another, and what
-- the same use of a model would cost in it. A tier whose monthly credits are null is unlimited.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_amount (tokens: not told, fewer than none, more than can be charged).

create or replace function public.compare_tiers(
  p_user_id     uuid,
  p_tokens_used bigint default 1000,
  p_model       text default 'gpt-4o',
  p_power_level text default 'balanced'
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_version int := internal.pricing_version();
  v_tier text;
begin
  if p_tokens_used is null or p_tokens_used < 0 then
    perform internal.refuse('invalid_amount', 'tokens_used: must be 0 or more');
  end if;
  if p_user_id is not null then
    perform internal.act_for(array[p_user_id]);
    select c.tier into v_tier from public.user_credits as c where c.user_id = p_user_id;
  end if;
  v_tier := coalesce(v_tier, 'free');
  return jsonb_build_object('current', v_tier, 'tiers', (
    select jsonb_agg(jsonb_build_object(
             'tier', t.tier, 'markup', internal.credits_json(t.markup), 'multiplier', internal.credits_json(1 + t.markup),
             'monthly_credits', internal.credits_json(t.monthly_credits), 'unlimited', t.monthly_credits is null,
             'rollover_max', internal.credits_json(t.rollover_max), 'cost', internal.credits_json(c.cost),
             'is_current', t.tier = v_tier) order by t.position, t.tier)
      from public.pricing_tiers as t
     cross join lateral internal.credit_cost(p_tokens_used, p_model, null, p_power_level, t.tier, v_version) as c
     where t.version = v_version));
end
$$;

-- What a use of a model would cost: {"cost"}. A user pays their own tier's markup, who is nobody the free tier's, unless
-- p_tier says at which tier to reckon.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_amount (tokens: not told, fewer than none, more than can be charged), unknown_tier.

create or replace function public.calculate_credit_cost(
  p_user_id     uuid,
  p_tokens_used bigint,
  p_model       text,
  p_power_level text default 'balanced',
  p_provider    text default null,
  p_tier        text default null
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
  v_tier text := p_tier;
begin
  if p_tokens_used is null or p_tokens_used < 0 then
    perform internal.refuse('invalid_amount', 'tokens_used: must be 0 or more');
  end if;
  if p_tier is not null and not exists (
       select from public.pricing_tiers as t where t.version = v_version and t.tier = p_tier) then
    perform internal.refuse('unknown_tier', format('tier: there is no %s', p_tier));
  end if;
  if v_tier is null and p_user_id is not null then
    perform internal.act_for(array[p_user_id]);
    select c.tier into v_tier from public.user_credits as c where c.user_id = p_user_id;
  end if;
  return jsonb_build_object('cost', internal.credits_json((
    internal.credit_cost(p_tokens_used, p_model, p_provider, p_power_level, coalesce(v_tier, 'free'), v_version)).cost));
end
$$;

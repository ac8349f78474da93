-- What a use of a model costs: (tokens / 1000) x price x power level x tier, to the sixth decimal place. The price is the
-- model's own; else that of the provider who is named; else that of the provider who stands before the model's name
-- ('openai/gpt-x', 'openai:gpt-x'); else the default one. A power level that is not known counts as balanced, a tier that
-- is not known pays no markup. Tokens that nobody counted have a price and no cost.
--
-- Refuses: invalid_amount: more tokens than can be charged.

create or replace function internal.credit_cost(
  p_tokens_used bigint,
  p_model       text,
  p_provider    text,
  p_power_level text,
  p_tier        text,
  p_version     int default null
)
returns internal.credit_price
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_name text := regexp_replace(p_model, '/', ':');
  v_default numeric;
  v_multiplier numeric;
  v_cost numeric;
  v_price internal.credit_price;
begin
  v_price.pricing_version := coalesce(p_version, internal.pricing_version());
  select v.default_price into v_default from public.pricing_versions as v where v.version = v_price.pricing_version;

  select m.price_per_1k into v_price.price_per_1k
    from public.pricing_models as m where m.version = v_price.pricing_version and m.model = p_model;
  if not found then
    -- Of each way to name a provider the longest name is the nearest. 'openai' ends at the colon, so that 'local-hero' is
    -- no local model; what goes on after a colon ends where a word of the model's name does.
    select p.price_per_1k into v_price.price_per_1k
      from public.pricing_providers as p
     cross join lateral (values (1, p_provider || ':' || coalesce(v_name, '')), (2, v_name)) as n(nearness, name)
     where p.version = v_price.pricing_version
       and starts_with(n.name, p.provider)
       and (substr(n.name, length(p.provider) + 1, 1) in ('', ':')
            or substr(n.name, length(p.provider) + 1, 1) = '-' and strpos(p.provider, ':') > 0)
     order by n.nearness, length(p.provider) desc
     limit 1;
  end if;
  v_price.is_known := found;

  select l.power_level, l.cost_multiplier into v_price.power_level, v_multiplier
    from public.pricing_power_levels as l
   where l.version = v_price.pricing_version and l.power_level in (p_power_level, 'balanced')
   order by l.power_level = p_power_level desc
   limit 1;

  v_price.tier := p_tier;
  v_price.price_per_1k := coalesce(v_price.price_per_1k, v_default);
  -- Multiplied and never divided: that is exact, however many tokens there are.
  v_cost := round(p_tokens_used * 0.001 * v_price.price_per_1k * v_multiplier * (1 + coalesce((
    select t.markup from public.pricing_tiers as t where t.version = v_price.pricing_version and t.tier = p_tier), 0)), 6);
  if v_cost >= 1000000000000 then
    perform internal.refuse('invalid_amount', format('tokens_used: %s tokens cost more than can be charged', p_tokens_used));
  end if;
  v_price.cost := v_cost;
  return v_price;
end
$$;

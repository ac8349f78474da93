-- A whole price list: the one in force, or the version asked for. Prices are of 1,000 tokens.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: not_found (version).

create or replace function public.price_list(p_version int default null)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_list public.pricing_versions;
begin
  select v.* into v_list from public.pricing_versions as v where v.version = coalesce(p_version, internal.pricing_version());
  if v_list.version is null then
    perform internal.refuse('not_found', format('version: there is no price list %s', p_version));
  end if;
  return jsonb_build_object(
    'version', v_list.version, 'effective_from', v_list.effective_from, 'note', v_list.note,
    'default_price', trim_scale(v_list.default_price),
    'models', (
      select coalesce(jsonb_object_agg(m.model, trim_scale(m.price_per_1k)), '{}')
        from public.pricing_models as m where m.version = v_list.version),
    'providers', (
      select coalesce(jsonb_object_agg(p.provider, trim_scale(p.price_per_1k)), '{}')
        from public.pricing_providers as p where p.version = v_list.version),
    'power_levels', (
      select jsonb_object_agg(l.power_level, jsonb_build_object(
               'cost_multiplier', trim_scale(l.cost_multiplier), 'max_tokens', l.max_tokens, 'temperature', trim_scale(l.temperature),
               'max_cost_per_request', trim_scale(l.max_cost_per_request), 'quality', trim_scale(l.quality), 'latency', l.latency,
               'preferred_providers', l.preferred_providers))
        from public.pricing_power_levels as l where l.version = v_list.version),
    'tiers', (
      select jsonb_object_agg(t.tier, jsonb_build_object(
               'markup', trim_scale(t.markup), 'monthly_credits', trim_scale(t.monthly_credits),
               'rollover_max', trim_scale(t.rollover_max), 'low_balance_below', trim_scale(t.low_balance_below),
               'position', t.position))
        from public.pricing_tiers as t where t.version = v_list.version));
end
$$;

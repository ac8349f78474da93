-- Takes back a price list that is not in force yet, and that no other was made from.
--
-- Replay:  what is gone is not found.
-- Locks:   an advisory lock of all who publish or withdraw.
-- Refuses: forbidden, not_found (version), prices_in_force, invalid_body (version): there is a newer one, made from it.

create or replace function public.withdraw_prices(
  p_user_id    uuid,
  p_version    int,
  p_reason     text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_list public.pricing_versions;
begin
  perform pg_advisory_xact_lock(hashtextextended('public.pricing_versions', 0));
  select v.* into v_list from public.pricing_versions as v where v.version = p_version;
  if v_list.version is null then
    perform internal.refuse('not_found', format('version: there is no price list %s', p_version));
  end if;
  if v_list.effective_from <= internal.clock() then
    perform internal.refuse('prices_in_force', format('version: %s is in force since %s', p_version, v_list.effective_from));
  end if;
  if exists (select from public.pricing_versions as v where v.effective_from > v_list.effective_from) then
    perform internal.refuse('invalid_body', 'version: withdraw the newer one first');
  end if;

  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.reason', coalesce(p_reason, ''), true);
  delete from public.pricing_models as m where m.version = p_version;
  delete from public.pricing_providers as p where p.version = p_version;
  delete from public.pricing_power_levels as l where l.version = p_version;
  delete from public.pricing_tiers as t where t.version = p_version;
  delete from public.pricing_versions as v where v.version = p_version;
  perform internal.audit(v_actor, 'prices.withdrawn', 'pricing_versions', p_version::text, p_reason,
    jsonb_build_object('effective_from', v_list.effective_from, 'note', v_list.note), null, p_request_id);
  return jsonb_build_object('version', p_version, 'effective_from', v_list.effective_from);
end
$$;

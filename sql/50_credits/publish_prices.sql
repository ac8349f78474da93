-- Makes a new price list: the newest one with p_changes, as internal.changed_price_list takes them. It is in force from
-- p_effective_from on, or at once, and after every other; the one before stays for what was reckoned by it. The note says
-- why. Answers {"version", "effective_from", "note", "changes": [{"path", "before", "after"}]}.
--
-- Replay:  changes that the newest price list has already make no other: that one is answered, with "replayed".
-- Locks:   an advisory lock of all who publish or withdraw.
-- Refuses: forbidden, reason_required (note), invalid_body (changes, with the path of the fault; a time that is past,
--          or not after the newest price list's).

create or replace function public.publish_prices(
  p_user_id        uuid,
  p_changes        jsonb,
  p_note           text default null,
  p_effective_from timestamptz default null,
  p_actor          text default null,
  p_request_id     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_actor text := internal.actor(p_user_id, p_actor);
  v_from timestamptz := coalesce(p_effective_from, v_now);
  v_newest public.pricing_versions;
  v_before jsonb;
  v_after jsonb;
  v_version int;
  v_changes jsonb;
begin
  if coalesce(p_note, '') !~ '\S' then
    perform internal.refuse('reason_required', 'note: say why prices change');
  end if;
  perform pg_advisory_xact_lock(hashtextextended('public.pricing_versions', 0));
  select v.* into v_newest from public.pricing_versions as v order by v.effective_from desc limit 1;
  v_before := public.price_list(v_newest.version) - array['version', 'effective_from', 'note'];
  v_after := internal.changed_price_list(v_before, p_changes);
  if v_after = v_before then
    return jsonb_build_object('version', v_newest.version, 'effective_from', v_newest.effective_from, 'note', v_newest.note,
      'changes', '[]'::jsonb, 'replayed', true);
  end if;

  if v_from < v_now or not isfinite(v_from) then
    perform internal.refuse('invalid_body', 'effective_from: must be now or in the future');
  end if;
  if v_from <= v_newest.effective_from then
    perform internal.refuse('invalid_body', format('effective_from: must be after that of version %s, %s',
      v_newest.version, v_newest.effective_from));
  end if;

  select jsonb_agg(jsonb_build_object('path', c.path, 'before', c.before, 'after', c.after) order by c.path)
    into v_changes
    from (
      select k.part || '.' || k.name as path, v_before #> array[k.part, k.name] as before, v_after #> array[k.part, k.name] as after
        from (select p.key as part, jsonb_object_keys(p.value) as name from jsonb_each((v_before || v_after) - 'default_price') as p
               union
              select p.key, jsonb_object_keys(p.value) from jsonb_each(v_before - 'default_price') as p) as k
      union all
      select 'default_price', v_before -> 'default_price', v_after -> 'default_price') as c
   where c.before is distinct from c.after;

  -- What the trigger writes into the audit log is then theirs too.
  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.reason', p_note, true);
  select max(v.version) + 1 into v_version from public.pricing_versions as v;
  insert into public.pricing_versions (version, effective_from, default_price, note, created_by)
  values (v_version, v_from, (v_after -> 'default_price')::numeric, p_note, v_actor);
  insert into public.pricing_models (version, model, price_per_1k)
  select v_version, m.key, m.value::numeric from jsonb_each(v_after -> 'models') as m;
  insert into public.pricing_providers (version, provider, price_per_1k)
  select v_version, p.key, p.value::numeric from jsonb_each(v_after -> 'providers') as p;
  insert into public.pricing_power_levels (
         version, power_level, cost_multiplier, max_tokens, temperature, max_cost_per_request, quality, latency, preferred_providers)
  select v_version, l.key, r.cost_multiplier, r.max_tokens, r.temperature, r.max_cost_per_request, r.quality, r.latency,
         r.preferred_providers
    from jsonb_each(v_after -> 'power_levels') as l
   cross join lateral jsonb_to_record(l.value) as r(
         cost_multiplier numeric, max_tokens int, temperature numeric, max_cost_per_request numeric, quality numeric, latency text,
         preferred_providers text[]);
  insert into public.pricing_tiers (version, tier, markup, monthly_credits, rollover_max, low_balance_below, position)
  select v_version, t.key, r.markup, r.monthly_credits, r.rollover_max, r.low_balance_below, r.position
    from jsonb_each(v_after -> 'tiers') as t
   cross join lateral jsonb_to_record(t.value) as r(
         markup numeric, monthly_credits numeric, rollover_max numeric, low_balance_below numeric, position int);

  perform internal.audit(v_actor, 'prices.published', 'pricing_versions', v_version::text, p_note, null,
    jsonb_build_object('effective_from', v_from, 'changes', v_changes), p_request_id);
  return jsonb_build_object('version', v_version, 'effective_from', v_from, 'note', p_note, 'changes', v_changes);
end
$$;

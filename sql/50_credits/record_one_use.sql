-- Writes down one use of a model: what internal.record_usage does with a set of one. Three short statements cost less than the
-- one that handles sets.
--
-- Replay:  none by itself: an event that is there already is an error.
-- Locks:   the user's row of the rollup.
-- Refuses: nothing.

create or replace function internal.record_one_use(p_event public.usage_events)
returns void
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_month date;
begin
  p_event.created_at := coalesce(p_event.created_at, v_now);
  p_event.tokens_used := coalesce(p_event.tokens_used, 0);
  p_event.cost := coalesce(p_event.cost, 0);
  p_event.success := coalesce(p_event.success, true);
  v_month := date_trunc('month', p_event.created_at)::date;

  insert into public.usage_events (
         user_id, id, event_type, service, provider, model, power_level, tokens_used, cost, success, metadata, tier,
         pricing_version, transaction_id, source, payload_hash, created_at, recorded_at)
  values (p_event.user_id, coalesce(p_event.id, internal.uuidv7()), coalesce(p_event.event_type, 'usage'), p_event.service,
          p_event.provider, p_event.model, p_event.power_level, p_event.tokens_used, p_event.cost, p_event.success, p_event.metadata,
          p_event.tier, p_event.pricing_version, p_event.transaction_id, p_event.source, p_event.payload_hash, p_event.created_at, v_now);

  p_event.provider := coalesce(p_event.provider, '');
  p_event.model := coalesce(p_event.model, '');
  p_event.power_level := coalesce(p_event.power_level, '');
  insert into public.usage_rollups as r (user_id, month, provider, model, power_level, events, failures, tokens, cost)
  values (p_event.user_id, v_month, p_event.provider, p_event.model, p_event.power_level, 1, (not p_event.success)::int,
          p_event.tokens_used, p_event.cost)
  on conflict (user_id, month, provider, model, power_level) do update
     set events   = r.events + excluded.events,
         failures = r.failures + excluded.failures,
         tokens   = r.tokens + excluded.tokens,
         cost     = r.cost + excluded.cost;

  insert into internal.usage_deltas (month, provider, model, power_level, events, failures, tokens, cost)
  values (v_month, p_event.provider, p_event.model, p_event.power_level, 1, (not p_event.success)::int, p_event.tokens_used, p_event.cost);
end
$$;

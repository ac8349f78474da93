-- Writes down uses of models, and sums them up in the same transaction: the only way usage is written.
--
-- Replay:  none by itself: an event that is there already is an error.
-- Locks:   the users' rows of the rollup, in order.
-- Refuses: nothing.

create or replace function internal.record_usage(p_events public.usage_events[])
returns void
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  with event as materialized (
    select e.*, date_trunc('month', e.created_at)::date as month, coalesce(e.provider, '') as rolled_provider,
           coalesce(e.model, '') as rolled_model, coalesce(e.power_level, '') as rolled_power_level
      from unnest(p_events) as e
  ), stored as (
    insert into public.usage_events as u (
           user_id, id, event_type, service, provider, model, power_level, tokens_used, cost, success, metadata, tier,
           pricing_version, transaction_id, source, payload_hash, created_at, recorded_at)
    select e.user_id, e.id, e.event_type, e.service, e.provider, e.model, e.power_level, e.tokens_used, e.cost, e.success, e.metadata,
           e.tier, e.pricing_version, e.transaction_id, e.source, e.payload_hash, e.created_at, internal.clock()
      from event as e
  ), rolled as (
    insert into public.usage_rollups as r (user_id, month, provider, model, power_level, events, failures, tokens, cost)
    select e.user_id, e.month, e.rolled_provider, e.rolled_model, e.rolled_power_level,
           count(*), count(*) filter (where not e.success), sum(e.tokens_used), sum(e.cost)
      from event as e
     group by 1, 2, 3, 4, 5
     order by 1, 2, 3, 4, 5
    on conflict (user_id, month, provider, model, power_level) do update
       set events   = r.events + excluded.events,
           failures = r.failures + excluded.failures,
           tokens   = r.tokens + excluded.tokens,
           cost     = r.cost + excluded.cost
  )
  insert into internal.usage_deltas (month, provider, model, power_level, events, failures, tokens, cost)
  select e.month, e.rolled_provider, e.rolled_model, e.rolled_power_level,
         count(*), count(*) filter (where not e.success), sum(e.tokens_used), sum(e.cost)
    from event as e
   group by 1, 2, 3, 4;
end
$$;

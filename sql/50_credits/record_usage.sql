-- Writes down uses of models, and sums them up in the same transaction: the only way usage is written. What an event does
-- not say is as the table's defaults have it. Whoever calls it holds internal.lock_credits for all of the users.
-- An event counts in the month, in UTC, in which it happened, whenever it is recorded.
--
-- Replay:  none by itself: an event that is there already is an error.
-- Locks:   the users' rows of the rollup, in order; everybody's sums are only added to, so nobody waits there.
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
declare
  v_now timestamptz := internal.clock();
begin
  if cardinality(p_events) = 1 then
    perform internal.record_one_use(p_events[1]);
    return;
  end if;

  with event as materialized (
    select e.user_id, coalesce(e.id, internal.uuidv7()) as id, coalesce(e.event_type, 'usage') as event_type, e.service, e.provider,
           e.model, e.power_level, coalesce(e.tokens_used, 0) as tokens_used, coalesce(e.cost, 0) as cost,
           coalesce(e.success, true) as success, e.metadata, e.tier, e.pricing_version, e.transaction_id, e.source, e.payload_hash,
           w.happened_at as created_at, date_trunc('month', w.happened_at)::date as month,
           coalesce(e.provider, '') as rolled_provider, coalesce(e.model, '') as rolled_model,
           coalesce(e.power_level, '') as rolled_power_level
      from unnest(p_events) as e
     cross join lateral (select coalesce(e.created_at, v_now) as happened_at) as w
  ), stored as (
    insert into public.usage_events as u (
           user_id, id, event_type, service, provider, model, power_level, tokens_used, cost, success, metadata, tier,
           pricing_version, transaction_id, source, payload_hash, created_at, recorded_at)
    select e.user_id, e.id, e.event_type, e.service, e.provider, e.model, e.power_level, e.tokens_used, e.cost, e.success, e.metadata,
           e.tier, e.pricing_version, e.transaction_id, e.source, e.payload_hash, e.created_at, v_now
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

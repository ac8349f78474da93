-- Takes what was refunded of a usage off what its month cost, the user's and everybody's, so that the monthly cap gets it back
-- where the usage is this month's. A usage that no event tells of is in no month.
--
-- Replay:  none by itself.
-- Locks:   the user's row of the rollup.
-- Refuses: nothing.

create or replace function internal.record_usage_refund(p_user_id uuid, p_transaction_id uuid, p_amount numeric)
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
    select e.user_id, date_trunc('month', e.created_at)::date as month, coalesce(e.provider, '') as provider,
           coalesce(e.model, '') as model, coalesce(e.power_level, '') as power_level
      from public.usage_events as e
     where e.user_id = p_user_id and e.transaction_id = p_transaction_id
     order by e.id
     limit 1
  ), rolled as (
    update public.usage_rollups as r
       set refunded = r.refunded + p_amount
      from event as e
     where r.user_id = e.user_id and r.month = e.month and r.provider = e.provider and r.model = e.model
       and r.power_level = e.power_level
  )
  insert into internal.usage_deltas (month, provider, model, power_level, events, failures, tokens, cost, refunded)
  select e.month, e.provider, e.model, e.power_level, 0, 0, 0, 0, p_amount from event as e;
end
$$;

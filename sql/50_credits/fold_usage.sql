-- Adds what was used of late to everybody's sums by month and model, at most p_limit changes, the oldest first; returns
-- {"folded": n}. Whoever reads internal.usage_by_month sees the same before and after.
--
-- Replay:  a change that was folded is gone; a second run finds others or none.
-- Locks:   the changes, skipping those that are taken; then the sums, in order: several workers share the work.
-- Refuses: nothing.

create or replace function public.fold_usage(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_folded int;
begin
  with due as materialized (
    select d.id from internal.usage_deltas as d order by d.id limit p_limit for update skip locked
  ), taken as (
    delete from internal.usage_deltas as d
     using due as u
     where d.id = u.id
    returning d.*
  ), added as (
    insert into internal.usage_totals as t (month, provider, model, power_level, events, failures, tokens, cost, refunded)
    select k.month, k.provider, k.model, k.power_level, sum(k.events), sum(k.failures), sum(k.tokens), sum(k.cost), sum(k.refunded)
      from taken as k
     group by k.month, k.provider, k.model, k.power_level
     order by k.month, k.provider, k.model, k.power_level
    on conflict (month, provider, model, power_level) do update
       set events   = t.events + excluded.events,
           failures = t.failures + excluded.failures,
           tokens   = t.tokens + excluded.tokens,
           cost     = t.cost + excluded.cost,
           refunded = t.refunded + excluded.refunded
  )
  select count(*) into v_folded from taken as k;
  return jsonb_build_object('folded', v_folded);
end
$$;

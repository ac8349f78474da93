-- Fills at most p_limit pools that fell below the percentage of their refill at which they are to be filled again; returns
-- {"refilled": n, "points": text}. A refill is an allocation, and lifts the pool above that percentage: once a crossing.
--
-- Replay:  a pool that was filled is not below it any more.
-- Locks:   those of internal.allocate_to_tenants.
-- Refuses: nothing.

create or replace function public.refill_pools(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tenants uuid[];
  v_refilled uuid[];
  v_points numeric;
begin
  v_tenants := array(
    select t.id from public.tenants as t
     where t.auto_refill_amount is not null and t.is_active
       and t.points_allocation_balance < t.auto_refill_amount * t.auto_refill_threshold / 100
     order by t.id limit p_limit);

  -- Another worker may have filled some before this one held the lock.
  v_tenants := array(
    select l.tenant_id
      from internal.lock_pools(v_tenants) as l
      join public.tenants as t on t.id = l.tenant_id and t.is_active
     where l.balance < t.auto_refill_amount * t.auto_refill_threshold / 100
     order by l.tenant_id);
  if cardinality(v_tenants) = 0 then
    return '{"refilled": 0, "points": "0"}'::jsonb;
  end if;

  select array_agg((o.answer ->> 'tenant_id')::uuid), coalesce(sum((o.answer ->> 'amount_allocated')::numeric), 0)
    into v_refilled, v_points
    from internal.allocate_to_tenants(
           null, (select jsonb_agg(jsonb_build_object('tenant_id', t.id, 'amount', t.auto_refill_amount) order by t.id)
                    from public.tenants as t where t.id = any (v_tenants)),
           'Automatic refill', null, 'REFILL', 'system', null) as o
   where o.answer is not null;

  insert into public.tenant_alerts as x (tenant_id, kind, threshold, balance, created_at)
  select t.id, 'refilled', t.auto_refill_amount * t.auto_refill_threshold / 100, t.points_allocation_balance, v_now
    from public.tenants as t
   where t.id = any (v_refilled)
   order by t.id;
  return jsonb_build_object('refilled', coalesce(cardinality(v_refilled), 0), 'points', internal.points_text(v_points));
end
$$;

-- Takes out of at most p_limit pools what is left of the allocations whose time is up; returns {"expired": tenants, "lots":
-- n, "points": text}. Each becomes a row of the platform's trail that names it. After each look the tenant's row says until
-- when nothing of the pool ends.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   the pools, in order; then the allocations; then the cache rows.
-- Refuses: nothing.

create or replace function public.expire_allocations(p_limit int default 1000)
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
  v_tenants uuid[] := array(
    select t.id from public.tenants as t where t.allocations_due_at <= v_now order by t.allocations_due_at limit p_limit);
  v_bills internal.tenant_bill[];
begin
  perform from internal.lock_pools(v_tenants);

  v_bills := array(
    select row(l.tenant_id, internal.uuidv7(), -l.remaining, 'EXPIRY', l.id, null, 'system', 'The allocation''s time is up', null, null,
               null)::internal.tenant_bill
      from internal.pool_lots(v_tenants) as l
     where l.is_allocation and l.remaining > 0 and l.expires_at <= v_now
     order by l.tenant_id, l.created_at, l.id);
  if cardinality(v_bills) > 0 then
    update public.allocation_logs as l
       set expired_amount = l.expired_amount - b.amount, status = 'EXPIRED', updated_at = v_now
      from unnest(v_bills) as b
     where l.tenant_id = b.tenant_id and l.id = b.allocation_id;
    perform internal.bill_tenants(v_bills);
  end if;

  update public.tenants as t
     set allocations_due_at = (
           select min(l.expires_at) from internal.pool_lots(array[t.id]) as l where l.expires_at > v_now)
   where t.id = any (v_tenants);

  return jsonb_build_object(
    'expired', cardinality(v_tenants), 'lots', cardinality(v_bills),
    'points', (select internal.points_text(coalesce(-sum(b.amount), 0)) from unnest(v_bills) as b));
end
$$;

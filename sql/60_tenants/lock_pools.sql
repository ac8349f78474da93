-- Locks the pools of tenants, in the order in which everything locks them, and says what each holds. A pool that was never
-- filled has no row to lock: who fills it first is waited for, so that of two first allocations one sees the other.
--
-- Locks:   for the pools that there is no account of, an advisory lock each, in order; then the accounts, in order.

create or replace function internal.lock_pools(p_tenant_ids uuid[])
returns table (tenant_id uuid, balance numeric)
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_unfilled uuid[] := array(
    select u.id from unnest(p_tenant_ids) as u(id)
     where not exists (select from ledger.accounts as a where a.book_id = u.id and a.account = 'tenant.pool'));
begin
  -- Before any row: who waits for one of these holds no pool for which whoever has it could wait.
  if cardinality(v_unfilled) > 0 then
    perform pg_advisory_xact_lock(k.key)
       from (select hashtextextended(format('tallybook.unfilled_pool %s', u.id), 0) as key from unnest(v_unfilled) as u(id) order by 1) as k;
  end if;
  perform from ledger.lock(p_tenant_ids, 'tenant.pool');

  return query
    select u.id, coalesce(a.balance / 100.0, 0)::numeric(15, 2)
      from unnest(p_tenant_ids) as u(id)
      left join lateral (
           select x.balance from ledger.accounts as x where x.book_id = u.id and x.account = 'tenant.pool' limit 1) as a on true;
end
$$;

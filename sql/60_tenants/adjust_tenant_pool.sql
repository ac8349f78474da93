-- Makes a posting of what a database administrator writes into a tenant's balance by hand, as the emergency runbook has it:
-- the ledger is brought to the number that was written, and the platform's trail says who did it. What the procedures write
-- there is what the ledger says already, and needs nothing: for them it is not even looked at.
--
-- Locks:   the tenant's row, which whoever updates it holds; then the pool's account. Procedures lock them the other way
--          round, so that on a busy pool one of the two may be told of a deadlock, and does it again.
--          public.adjust_tenant_pool_to stands in nobody's way.

create or replace function internal.adjust_tenant_pool()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_pool numeric(15, 2);
  v_delta numeric(15, 2);
  v_id uuid := internal.uuidv7();
begin
  perform ledger.lock(array[new.id], 'tenant.pool');
  select coalesce(min(a.balance), 0) / 100.0 into v_pool from ledger.accounts as a where a.book_id = new.id and a.account = 'tenant.pool';
  v_delta := new.points_allocation_balance - v_pool;
  if v_delta = 0 then
    return null;
  end if;

  perform from ledger.post(array[row(
    v_id, new.id, case when v_delta > 0 then 'tenant.adjusted' else 'tenant.pool' end,
    case when v_delta > 0 then 'tenant.pool' else 'tenant.adjusted' end, (abs(v_delta) * 100)::bigint, 'adjustment',
    'platform_billing_log', v_id, null)::ledger.posting]);
  insert into public.platform_billing_logs (tenant_id, id, actor, amount, currency, transaction_type, balance_after, reference_note)
  values (new.id, v_id, session_user, v_delta, new.currency, 'ADJUSTMENT', new.points_allocation_balance,
          coalesce(nullif(current_setting('tallybook.reason', true), ''), 'The balance was written by hand'));
  return null;
end
$$;

create or replace trigger a_balance_written_by_hand_is_posted
after update of points_allocation_balance on public.tenants
for each row when (
  old.points_allocation_balance is distinct from new.points_allocation_balance
  and current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.adjust_tenant_pool();

-- A tenant that comes with a balance had it from the platform.
create or replace trigger a_balance_that_comes_along_is_posted
after insert on public.tenants
for each row when (new.points_allocation_balance <> 0)
execute function internal.adjust_tenant_pool();

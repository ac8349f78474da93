-- Makes a posting of what a database administrator writes into a tenant's balance by hand, as the emergency runbook has it:
-- the ledger is brought to the number that was written, and the platform's trail says who did it. What the procedures write
-- there is what the ledger says already, and needs nothing: for them it is not even looked at.
--
-- Locks:   the tenant's row, which whoever updates it holds; then the pool's account, where nobody has it. Procedures lock
--          them the other way round: who has the account needs the row next, and to wait for them would be for ever.
--          public.adjust_tenant_pool_to locks as they do, and waits its turn.
-- Refuses: as the database does, with 55P03, and says what to do instead.

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
  begin
    select a.balance / 100.0 into v_pool
      from ledger.accounts as a where a.book_id = new.id and a.account = 'tenant.pool' for update nowait;
    -- A pool that was never filled has no account; who fills it first holds this, as internal.lock_pools does.
    if not found then
      if not pg_try_advisory_xact_lock(hashtextextended(format('tallybook.unfilled_pool %s', new.id), 0)) then
        raise lock_not_available;
      end if;
      select a.balance / 100.0 into v_pool
        from ledger.accounts as a where a.book_id = new.id and a.account = 'tenant.pool' for update nowait;
    end if;
  exception when lock_not_available then
    raise lock_not_available using
      message = format('The pool of tenant %s is in use: nothing was written', new.id),
      hint = format('Do it again; or have it done in its turn: select public.adjust_tenant_pool_to(null, %L, %s, ''why'')',
                    new.id, new.points_allocation_balance);
  end;
  v_delta := new.points_allocation_balance - coalesce(v_pool, 0);
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

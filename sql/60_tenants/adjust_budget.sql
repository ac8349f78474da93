-- Makes a posting of what a database administrator writes into a lead's or a department's budget by hand: the ledger is brought
-- to the number that was written, and the audit log says who did it. A department's budget is filled from what there was of
-- old, which is how it comes here at all; a lead's is put right. What the procedures write there the ledger says already, and for
-- them it is not even looked at. The trigger's arguments: the account, where its points come from, the column that says
-- whose it is, and the column that says how much.
--
-- Locks:   the member's or the department's row, which whoever updates it holds; then the account. Procedures lock them the
--          other way round, so that one of the two may be told of a deadlock, and does it again.

create or replace function internal.adjust_budget()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_new jsonb := to_jsonb(new);
  v_tenant_id uuid := new.tenant_id;
  v_account text := format('%s:%s', tg_argv[0], v_new ->> tg_argv[2]);
  v_balance numeric(15, 2) := v_new ->> tg_argv[3];
  v_kept numeric(15, 2);
  v_delta numeric(15, 2);
  v_id uuid := internal.uuidv7();
begin
  perform ledger.lock(array[v_tenant_id], v_account);
  select coalesce(min(a.balance), 0) / 100.0 into v_kept
    from ledger.accounts as a where a.book_id = v_tenant_id and a.account = v_account;
  v_delta := v_balance - v_kept;
  if v_delta = 0 then
    return null;
  end if;

  perform from ledger.post(array[row(
    v_id, v_tenant_id, case when v_delta > 0 then tg_argv[1] else v_account end,
    case when v_delta > 0 then v_account else tg_argv[1] end, (abs(v_delta) * 100)::bigint, 'adjustment', 'audit_log', v_id,
    null)::ledger.posting]);
  perform internal.audit(
    coalesce(nullif(current_setting('tallybook.actor', true), ''), session_user), 'budget.adjustment', tg_table_name,
    v_new ->> tg_argv[2], coalesce(nullif(current_setting('tallybook.reason', true), ''), 'The balance was written by hand'),
    jsonb_build_object('balance', internal.points_text(v_kept)),
    jsonb_build_object('balance', internal.points_text(v_balance), 'tenant_id', v_tenant_id, 'transfer_id', v_id));
  return null;
end
$$;

create or replace trigger a_budget_written_by_hand_is_posted
after update of lead_distribution_balance on public.tenant_members
for each row when (
  old.lead_distribution_balance is distinct from new.lead_distribution_balance
  and current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.adjust_budget('tenant.lead', 'tenant.adjusted', 'user_id', 'lead_distribution_balance');

create or replace trigger a_budget_that_comes_along_is_posted
after insert on public.tenant_members
for each row when (new.lead_distribution_balance <> 0)
execute function internal.adjust_budget('tenant.lead', 'tenant.adjusted', 'user_id', 'lead_distribution_balance');

create or replace trigger a_budget_written_by_hand_is_posted
after update of budget_balance on public.departments
for each row when (
  old.budget_balance is distinct from new.budget_balance and current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.adjust_budget('tenant.budget', 'tenant.legacy', 'id', 'budget_balance');

create or replace trigger a_budget_that_comes_along_is_posted
after insert on public.departments
for each row when (new.budget_balance <> 0)
execute function internal.adjust_budget('tenant.budget', 'tenant.legacy', 'id', 'budget_balance');

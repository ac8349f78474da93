-- Who may touch the book: procedures, for the books of the call's subjects; upkeep, for all. Nobody writes by hand.

revoke all on ledger.assets, ledger.chart_of_accounts, ledger.accounts, ledger.transfers, ledger.holds, ledger.statement,
  ledger.account_discrepancies from public, anon, authenticated, service_role;

grant select on ledger.assets, ledger.chart_of_accounts to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant select, insert, update on ledger.accounts, ledger.holds to tallybook_procedures, tallybook_upkeep;
grant select, insert on ledger.transfers to tallybook_procedures, tallybook_upkeep;
grant select on ledger.accounts, ledger.holds, ledger.transfers, ledger.statement, ledger.account_discrepancies to tallybook_operator;

alter table ledger.accounts  enable row level security;
alter table ledger.transfers enable row level security;
alter table ledger.holds     enable row level security;
alter table ledger.accounts  force row level security;
alter table ledger.transfers force row level security;
alter table ledger.holds     force row level security;

drop policy if exists "a procedure touches the accounts of its subjects" on ledger.accounts;
create policy "a procedure touches the accounts of its subjects" on ledger.accounts to tallybook_procedures
  using ((book_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "a procedure touches the transfers of its subjects" on ledger.transfers;
create policy "a procedure touches the transfers of its subjects" on ledger.transfers to tallybook_procedures
  using ((book_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "a procedure touches the holds of its subjects" on ledger.holds;
create policy "a procedure touches the holds of its subjects" on ledger.holds to tallybook_procedures
  using ((book_id = any ((select internal.subjects())::uuid[])) is true);

drop policy if exists "upkeep and operators see every account" on ledger.accounts;
create policy "upkeep and operators see every account" on ledger.accounts to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every transfer" on ledger.transfers;
create policy "upkeep and operators see every transfer" on ledger.transfers to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every hold" on ledger.holds;
create policy "upkeep and operators see every hold" on ledger.holds to tallybook_upkeep, tallybook_operator using (true);

revoke all on function
  ledger.post(ledger.posting[]), ledger.post_one(ledger.posting),
  ledger.post_set(ledger.posting[], boolean), ledger.post_closely(ledger.posting[]), ledger.lock(uuid[], text), ledger.open(uuid, text),
  ledger.hold(uuid, uuid, text, bigint, text, uuid, timestamptz), ledger.close_hold(uuid, uuid, text, bigint),
  ledger.hold_many(ledger.holds[]), ledger.close_holds(ledger.holds[], text),
  ledger.settle(uuid, uuid, text, bigint, text), ledger.release(uuid, uuid), ledger.expire_holds(int),
  ledger.balance_as_of(uuid, text, timestamptz, timestamptz), ledger.set_floor(uuid, text, bigint)
from public, anon, authenticated, service_role;

grant execute on function
  ledger.post(ledger.posting[]), ledger.post_one(ledger.posting),
  ledger.post_set(ledger.posting[], boolean), ledger.post_closely(ledger.posting[]), ledger.lock(uuid[], text), ledger.open(uuid, text),
  ledger.hold(uuid, uuid, text, bigint, text, uuid, timestamptz), ledger.close_hold(uuid, uuid, text, bigint),
  ledger.hold_many(ledger.holds[]), ledger.close_holds(ledger.holds[], text),
  ledger.settle(uuid, uuid, text, bigint, text), ledger.release(uuid, uuid), ledger.expire_holds(int),
  ledger.set_floor(uuid, text, bigint)
to tallybook_procedures, tallybook_upkeep;

grant execute on function ledger.balance_as_of(uuid, text, timestamptz, timestamptz)
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

revoke all on function public.expire_holds(int) from public, anon, authenticated, service_role;
alter function public.expire_holds(int) owner to tallybook_upkeep;
grant execute on function public.expire_holds(int) to tallybook_worker, tallybook_operator;

-- An account's entries as its owner would read them: signed, in the order in which they count, with the balance after each.

create or replace view ledger.statement
with (security_invoker = true)
as
select e.book_id, e.account, e.asset, e.effective_at, e.recorded_at, e.kind, e.amount,
       sum(e.amount) over (
         partition by e.book_id, e.account order by e.effective_at, e.transfer_id)::bigint as balance_after,
       e.source_type, e.source_id, e.transfer_id
  from (
    select t.*, t.to_account as account from ledger.transfers as t
  ) as t
 cross join lateral (
    values (t.book_id, t.to_account,   t.asset, t.effective_at, t.recorded_at, t.kind,  t.amount, t.source_type, t.source_id, t.transfer_id),
           (t.book_id, t.from_account, t.asset, t.effective_at, t.recorded_at, t.kind, -t.amount, t.source_type, t.source_id, t.transfer_id)
  ) as e(book_id, account, asset, effective_at, recorded_at, kind, amount, source_type, source_id, transfer_id);

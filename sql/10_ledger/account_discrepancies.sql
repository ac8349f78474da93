-- Where the accounts and the transfers disagree: the ledger's own part of ledger.discrepancies.

create or replace view ledger.account_discrepancies
with (security_invoker = true)
as
with entry as (
  select t.book_id, t.to_account as account, t.asset, t.amount from ledger.transfers as t
  union all
  select t.book_id, t.from_account, t.asset, -t.amount from ledger.transfers as t
), total as (
  select e.book_id, e.account, min(e.asset) as asset, sum(e.amount) as amount from entry as e group by e.book_id, e.account
), kept as (
  select t.* from total as t join ledger.chart_of_accounts as c on c.account = split_part(t.account, ':', 1) and c.floor is not null
), held as (
  select h.book_id, h.account, sum(h.amount) as amount from ledger.holds as h where h.status = 'held' group by h.book_id, h.account
)
select 'I3' as invariant, coalesce(a.book_id, k.book_id) as book_id, 'balance of ' || coalesce(a.account, k.account) as subject,
       coalesce(k.amount, 0)::text as expected, coalesce(a.balance, 0)::text as actual
  from ledger.accounts as a
  full join kept as k on k.book_id = a.book_id and k.account = a.account
 where coalesce(a.balance, 0) <> coalesce(k.amount, 0)
union all
select 'I3', coalesce(a.book_id, h.book_id), 'held in ' || coalesce(a.account, h.account),
       coalesce(h.amount, 0)::text, coalesce(a.held, 0)::text
  from ledger.accounts as a
  full join held as h on h.book_id = a.book_id and h.account = a.account
 where coalesce(a.held, 0) <> coalesce(h.amount, 0)
union all
select 'I4', a.book_id, 'available in ' || a.account, 'at least ' || a.floor, (a.balance - a.held)::text
  from ledger.accounts as a
 where a.balance - a.held < a.floor
union all
select 'I5', t.book_id, 'transfer ' || t.transfer_id, 'two accounts of one asset',
       format('%s %s -> %s %s', t.from_account, f.asset, t.to_account, o.asset)
  from ledger.transfers as t
  left join ledger.chart_of_accounts as f on f.account = split_part(t.from_account, ':', 1)
  left join ledger.chart_of_accounts as o on o.account = split_part(t.to_account, ':', 1)
 where t.asset is distinct from f.asset or t.asset is distinct from o.asset
union all
-- The accounts that keep a balance, as they stand, and the counterparties, as the transfers tell: together nothing.
select 'I5', null, 'sum of all ' || s.asset, '0', sum(s.amount)::text
  from (
    select a.asset, a.balance as amount from ledger.accounts as a
    union all
    select t.asset, t.amount
      from total as t
      join ledger.chart_of_accounts as c on c.account = split_part(t.account, ':', 1) and c.floor is null
  ) as s
 group by s.asset
having sum(s.amount) <> 0;

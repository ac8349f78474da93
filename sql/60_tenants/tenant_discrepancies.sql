-- Where tenants disagree with the ledger: the part of ledger.discrepancies that is theirs.

create or replace view internal.tenant_discrepancies
with (security_invoker = true)
as
with kept as (
  select t.id as tenant_id, 'tenant.pool' as account, t.points_allocation_balance as points from public.tenants as t
  union all
  select m.tenant_id, 'tenant.lead:' || m.user_id, m.lead_distribution_balance from public.tenant_members as m
  union all
  select d.tenant_id, 'tenant.budget:' || d.id, d.budget_balance from public.departments as d
  union all
  select w.tenant_id, 'tenant.wallet:' || w.user_id, w.balance from public.wallets as w
)
select 'I3' as invariant, coalesce(a.book_id, k.tenant_id) as book_id, coalesce(a.account, k.account) as subject,
       (coalesce(a.balance, 0) / 100.0)::numeric(15, 2)::text as expected, coalesce(k.points, 0)::numeric(15, 2)::text as actual
  from (select x.book_id, x.account, x.balance from ledger.accounts as x where x.asset = 'tenant_points') as a
  full join kept as k on k.tenant_id = a.book_id and k.account = a.account
 where coalesce(a.balance, 0) <> coalesce(k.points, 0) * 100
union all
-- A wallet's statement is what it holds, and each entry a transfer.
select 'I3', w.tenant_id, 'statement of the wallet of ' || w.user_id, w.balance::text, coalesce(l.points, 0)::text
  from public.wallets as w
  left join (select x.tenant_id, x.user_id, sum(case x.transaction_type when 'credit' then x.points else -x.points end) as points
               from public.wallet_ledger as x group by x.tenant_id, x.user_id) as l on l.tenant_id = w.tenant_id and l.user_id = w.user_id
 where w.balance <> coalesce(l.points, 0)
union all
select 'I2', l.tenant_id, 'wallet entry ' || l.id, 'a transfer', 'none'
  from public.wallet_ledger as l
 where not exists (select from ledger.transfers as t where t.book_id = l.tenant_id and t.transfer_id = l.id and t.amount = l.points * 100);

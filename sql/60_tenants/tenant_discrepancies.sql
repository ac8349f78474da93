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
-- A wallet's statement is what it holds and what it had and spent in all, and each entry a transfer.
select 'I3', w.tenant_id, 'statement of the wallet of ' || w.user_id,
       format('%s of %s less %s', w.balance, w.lifetime_earned, w.lifetime_spent),
       format('%s of %s less %s', coalesce(l.earned - l.spent, 0), coalesce(l.earned, 0), coalesce(l.spent, 0))
  from public.wallets as w
  left join (select x.tenant_id, x.user_id, coalesce(sum(x.points) filter (where x.transaction_type = 'credit'), 0) as earned,
                    coalesce(sum(x.points) filter (where x.transaction_type = 'debit'), 0) as spent
               from public.wallet_ledger as x group by x.tenant_id, x.user_id) as l on l.tenant_id = w.tenant_id and l.user_id = w.user_id
 where w.lifetime_earned <> coalesce(l.earned, 0) or w.lifetime_spent <> coalesce(l.spent, 0)
    or w.balance <> coalesce(l.earned - l.spent, 0)
union all
select 'I2', l.tenant_id, 'wallet entry ' || l.id, 'a transfer', 'none'
  from public.wallet_ledger as l
 where not exists (select from ledger.transfers as t where t.book_id = l.tenant_id and t.transfer_id = l.id and t.amount = l.points * 100)
union all
-- What an allocation's row says was taken of it by name is what the transfers took.
select 'I3', l.tenant_id, 'taken of allocation ' || l.id, format('reversed %s, expired %s', coalesce(t.reversed, 0), coalesce(t.expired, 0)),
       format('reversed %s, expired %s', l.reversed_amount, l.expired_amount)
  from public.allocation_logs as l
  left join (select b.tenant_id, b.allocation_id, sum(x.amount) filter (where x.kind = 'reversal') / 100.0 as reversed,
                    sum(x.amount) filter (where x.kind = 'expiry') / 100.0 as expired
               from public.platform_billing_logs as b
               join ledger.transfers as x on x.book_id = b.tenant_id and x.transfer_id = b.id and x.from_account = 'tenant.pool'
              where b.allocation_id is not null
              group by b.tenant_id, b.allocation_id) as t on t.tenant_id = l.tenant_id and t.allocation_id = l.id
 where l.reversed_amount <> coalesce(t.reversed, 0) or l.expired_amount <> coalesce(t.expired, 0)
union all
-- What the platform's trail says stood in a pool afterwards, it moved. A row written by hand says nothing of that.
select 'I2', b.tenant_id, 'platform billing ' || b.id, 'a transfer of ' || b.amount, 'none'
  from public.platform_billing_logs as b
 where b.balance_after is not null and b.amount <> 0
   and not exists (select from ledger.transfers as t
                    where t.book_id = b.tenant_id and t.transfer_id = b.id and t.amount = abs(b.amount) * 100
                      and case when b.amount > 0 then t.to_account else t.from_account end = 'tenant.pool')
union all
select 'I2', d.tenant_id, 'delegation ' || d.id, 'a transfer of ' || d.amount, 'none'
  from public.lead_delegations as d
 where not exists (select from ledger.transfers as t
                    where t.book_id = d.tenant_id and t.transfer_id = d.id and t.amount = abs(d.amount) * 100
                      and case when d.amount > 0 then t.to_account else t.from_account end = 'tenant.lead:' || d.lead_user_id)
union all
-- A recognition is what its recipients got, and that is in their wallets; once it is revoked, all of it was taken back.
select 'I2', r.tenant_id, 'recognition ' || r.id, format('%s, back %s', r.points, case r.status when 'revoked' then r.points else 0 end),
       format('%s, back %s', coalesce(g.points, 0), coalesce(b.points, 0))
  from public.recognitions as r
  left join (select x.tenant_id, x.recognition_id, sum(x.points) as said, coalesce(sum(t.amount), 0) / 100.0 as points
               from public.recognition_recipients as x
               left join ledger.transfers as t
                      on t.book_id = x.tenant_id and t.transfer_id = x.entry_id and t.to_account = 'tenant.wallet:' || x.user_id
              group by x.tenant_id, x.recognition_id) as g on g.tenant_id = r.tenant_id and g.recognition_id = r.id
  left join (select l.tenant_id, l.reference_id, sum(l.points) as points
               from public.wallet_ledger as l
              where l.reference_type = 'recognition' and l.source = 'reversal' and l.transaction_type = 'debit'
              group by l.tenant_id, l.reference_id) as b on b.tenant_id = r.tenant_id and b.reference_id = r.id
 where r.points <> coalesce(g.points, 0) or r.points <> coalesce(g.said, 0)
    or case r.status when 'revoked' then r.points else 0 end <> coalesce(b.points, 0)
union all
-- A redemption took what it says, and gave it back where it was refunded.
select 'I2', x.tenant_id, 'redemption ' || x.id, format('%s, %s', x.points, x.status), format('%s, back %s', t.amount / 100.0, b.amount / 100.0)
  from public.reward_redemptions as x
  left join ledger.transfers as t on t.book_id = x.tenant_id and t.transfer_id = x.entry_id and t.from_account = 'tenant.wallet:' || x.user_id
  left join ledger.transfers as b on b.book_id = x.tenant_id and b.transfer_id = x.id and b.to_account = 'tenant.wallet:' || x.user_id
 where t.amount is distinct from x.points * 100
    or b.amount is distinct from case x.status when 'refunded' then (x.points * 100)::bigint end
union all
-- What moved, stands where it is told of: nobody took its row away, or changed what it says.
select 'I2', t.book_id, 'transfer ' || t.transfer_id, format('allocation %s of %s', t.source_id, t.amount / 100.0), 'none'
  from ledger.transfers as t
 where t.kind in ('credit_injection', 'refill') and t.to_account = 'tenant.pool'
   and not exists (select from public.allocation_logs as l
                    where l.tenant_id = t.book_id and l.id = t.source_id and l.amount = t.amount / 100.0)
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'delegation ' || t.transfer_id, 'none'
  from ledger.transfers as t
 where t.kind in ('delegation', 'recall') and t.source_type = 'lead_delegation'
   and not exists (select from public.lead_delegations as d where d.tenant_id = t.book_id and d.id = t.transfer_id)
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'recognition ' || t.source_id, 'none'
  from ledger.transfers as t
 where t.kind = 'recognition' and starts_with(t.to_account, 'tenant.wallet:')
   and not exists (select from public.recognitions as r
                    where r.tenant_id = t.book_id and r.id = t.source_id and starts_with(t.from_account, 'tenant.' || r.funded_by))
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'redemption ' || t.source_id, 'none'
  from ledger.transfers as t
 where t.kind = 'redemption' and t.source_type = 'reward_redemption'
   and not exists (select from public.reward_redemptions as x where x.tenant_id = t.book_id and x.id = t.source_id);

-- Where credits disagree with themselves: the part of ledger.discrepancies that is theirs.

create or replace view internal.credit_discrepancies
with (security_invoker = true)
as
select 'I3' as invariant, coalesce(a.book_id, c.user_id) as book_id, 'balance in user_credits' as subject,
       (coalesce(a.balance, 0) / 1000000.0)::numeric(18, 6)::text as expected, coalesce(c.balance, 0)::text as actual
  from (select x.book_id, x.balance from ledger.accounts as x where x.account = 'credits') as a
  full join public.user_credits as c on c.user_id = a.book_id
 where coalesce(c.balance, 0) * 1000000 <> coalesce(a.balance, 0)
union all
-- An account that owes has no lots.
select 'I3', coalesce(c.user_id, g.user_id), 'sum of the lots', greatest(coalesce(c.balance, 0), 0)::text, coalesce(g.remaining, 0)::text
  from public.user_credits as c
  full join (select x.user_id, sum(x.remaining) as remaining from public.credit_grants as x group by x.user_id) as g on g.user_id = c.user_id
 where coalesce(g.remaining, 0) <> greatest(coalesce(c.balance, 0), 0)
union all
select 'I3', coalesce(g.user_id, e.user_id), 'lot ' || coalesce(g.grant_id, e.grant_id), coalesce(e.amount, 0)::text, coalesce(g.remaining, 0)::text
  from public.credit_grants as g
  full join (select x.user_id, x.grant_id, sum(x.amount) as amount from public.credit_lot_entries as x group by x.user_id, x.grant_id) as e
    on e.user_id = g.user_id and e.grant_id = g.grant_id
 where coalesce(g.remaining, 0) <> coalesce(e.amount, 0)
union all
select 'I1', coalesce(t.book_id, c.user_id), 'transaction ' || coalesce(t.transfer_id, c.id),
       (coalesce(t.amount, 0) / 1000000.0)::numeric(18, 6)::text, coalesce(c.amount, 0)::text
  from (select x.book_id, x.transfer_id, case when x.to_account = 'credits' then x.amount else -x.amount end as amount
          from ledger.transfers as x where x.asset = 'credits') as t
  full join public.credit_transactions as c on c.user_id = t.book_id and c.id = t.transfer_id
 where coalesce(c.amount, 0) * 1000000 <> coalesce(t.amount, 0)
union all
select 'I3', null, 'uses of promotion ' || coalesce(p.code, r.code), coalesce(r.uses, 0)::text, p.times_used::text
  from public.coupon_codes as p
  left join (select x.code, count(*) as uses from public.coupon_redemptions as x group by x.code) as r on r.code = p.code
 where p.times_used <> coalesce(r.uses, 0)
union all
select 'I1', r.user_id, 'redemption of ' || r.code, r.transaction_id::text, 'none'
  from public.coupon_redemptions as r
 where not exists (select from public.credit_transactions as t where t.user_id = r.user_id and t.id = r.transaction_id)
union all
-- What a movement is called says between which accounts it goes.
select 'I1', t.book_id, 'accounts of ' || t.transfer_id, format('%s with %s', c.transaction_type, c.account),
       format('%s with %s', t.kind, t.account)
  from (select x.book_id, x.transfer_id, x.kind, case when x.to_account = 'credits' then x.from_account else x.to_account end as account
          from ledger.transfers as x where x.asset = 'credits') as t
  join (select x.user_id, x.id, x.transaction_type,
               case x.transaction_type when 'usage' then 'credits.used' when 'refund' then 'credits.used'
                                       when 'purchase' then 'credits.sold' when 'expiry' then 'credits.expired'
                                       when 'adjustment' then 'credits.adjusted' else 'credits.granted' end as account
          from public.credit_transactions as x) as c on c.user_id = t.book_id and c.id = t.transfer_id
 where (t.kind, t.account) <> (c.transaction_type, c.account)
union all
select 'I1', r.user_id, 'refunds of ' || r.refund_of, 'at most ' || coalesce(-t.amount, 0), r.amount::text
  from (select x.user_id, x.refund_of, sum(x.amount) as amount
          from public.credit_transactions as x where x.refund_of is not null group by x.user_id, x.refund_of) as r
  left join public.credit_transactions as t on t.user_id = r.user_id and t.id = r.refund_of and t.transaction_type = 'usage'
 where r.amount > coalesce(-t.amount, 0)
union all
select 'I1', e.user_id, 'charge for usage ' || e.id, e.cost::text, coalesce((-t.amount)::text, 'none')
  from public.usage_events as e
  left join public.credit_transactions as t on t.user_id = e.user_id and t.id = e.transaction_id and t.transaction_type = 'usage'
 where e.transaction_id is not null and e.cost is distinct from -t.amount
union all
-- A lot is as large as what brought it; of a refund it is the part for which there was no older one.
select 'I3', g.user_id, 'size of lot ' || g.grant_id, coalesce(t.amount, 0)::text, g.amount::text
  from public.credit_grants as g
  left join public.credit_transactions as t on t.user_id = g.user_id and t.id = g.grant_id
 where g.amount > coalesce(t.amount, 0) or g.amount < t.amount and t.transaction_type <> 'refund' or g.remaining > g.amount
union all
select 'I3', c.user_id, 'credits that ever came', coalesce(t.amount, 0)::text, c.credits_allocated::text
  from public.user_credits as c
  left join (select x.user_id, sum(x.amount) as amount
               from public.credit_transactions as x where x.amount > 0 and x.transaction_type <> 'refund' group by x.user_id) as t
    on t.user_id = c.user_id
 where c.credits_allocated <> coalesce(t.amount, 0)
union all
-- Nobody looks at lots before they are due: one that ended earlier would be spent for ever.
select 'I3', c.user_id, 'when lots are due', 'by ' || g.expires_at, c.lots_due_at::text
  from public.user_credits as c
  join (select x.user_id, min(x.expires_at) as expires_at from public.credit_grants as x where x.is_open group by x.user_id) as g
    on g.user_id = c.user_id
 where c.lots_due_at > g.expires_at;

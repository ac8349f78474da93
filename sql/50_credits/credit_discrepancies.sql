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
 where p.times_used <> coalesce(r.uses, 0);

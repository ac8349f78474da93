-- Where reservations disagree with the ledger's holds and with what settled them: their part of ledger.discrepancies.

create or replace view internal.credit_reservation_discrepancies
with (security_invoker = true)
as
select 'I3' as invariant, coalesce(r.user_id, h.book_id) as book_id, 'reservation ' || coalesce(r.id, h.hold_id) as subject,
       coalesce(r.amount, 0)::text as expected, (coalesce(h.amount, 0) / 1000000.0)::numeric(18, 6)::text as actual
  from public.credit_reservations as r
  full join (select x.book_id, x.hold_id, x.amount from ledger.holds as x where x.account = 'credits') as h
    on h.book_id = r.user_id and h.hold_id = r.id
 where coalesce(r.amount, 0) * 1000000 <> coalesce(h.amount, 0)
union all
-- What is settled has its transaction, which takes what the hold gave, and whatever it cost more.
select 'I1', h.book_id, 'settlement of ' || h.hold_id,
       case h.status when 'settled' then (h.settled / 1000000.0)::numeric(18, 6)::text else 'none' end,
       coalesce((-t.amount)::text, 'none')
  from ledger.holds as h
  left join public.credit_transactions as t on t.user_id = h.book_id and t.id = h.hold_id
 where h.account = 'credits'
   and case when h.status = 'settled' then t.id is null or h.settled <> least(-t.amount * 1000000, h.amount)
            else t.id is not null end;

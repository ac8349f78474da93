-- Everything that does not agree, and must be empty: one row a fault, with the invariant it breaks (I1 to I6).
-- `tallybook verify`, the admin page, the canary's gate and every test read this.

create or replace view ledger.discrepancies
with (security_invoker = true)
as
select d.invariant, d.book_id, d.subject, d.expected, d.actual from ledger.account_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.points_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.coupon_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.credit_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.usage_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.credit_reservation_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.tenant_discrepancies as d;

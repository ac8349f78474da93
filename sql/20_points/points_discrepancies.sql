-- Where the events, the ledger and the cache disagree: the points' own part of ledger.discrepancies.

create or replace view internal.points_discrepancies
with (security_invoker = true)
as
select 'I1' as invariant, e.user_id as book_id, 'event ' || e.id as subject,
       e.points_delta::text as expected, coalesce(t.amount::text, 'no transfer') as actual
  from public.points_events as e
  left join ledger.transfers as t on t.book_id = e.user_id and t.transfer_id = e.transfer_id
 where e.validation_status = 'validated' and e.points_delta <> 0
   and (t.transfer_id is null
        or e.points_delta <> case when t.to_account = 'points' then t.amount else -t.amount end)
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'a validated event', coalesce(e.validation_status, 'no event')
  from ledger.transfers as t
  left join public.points_events as e on e.user_id = t.book_id and e.id = t.source_id
 where t.source_type = 'points_event'
   and (e.validation_status is distinct from 'validated' or e.transfer_id is distinct from t.transfer_id)
union all
select 'I3', coalesce(c.user_id, a.book_id), 'available_points', coalesce(a.balance, 0)::text, coalesce(c.available_points, 0)::text
  from (select x.book_id, x.balance from ledger.accounts as x where x.account = 'points') as a
  full join public.user_points_cache as c on c.user_id = a.book_id
 where coalesce(a.balance, 0) <> coalesce(c.available_points, 0)
union all
select 'I3', coalesce(c.user_id, w.user_id), 'pending_points', coalesce(w.points, 0)::text, coalesce(c.pending_points, 0)::text
  from (select e.user_id, sum(e.points_delta) as points
          from public.points_events as e
         where e.validation_status in ('pending', 'pending_review', 'validating', 'flagged')
         group by e.user_id) as w
  full join public.user_points_cache as c on c.user_id = w.user_id
 where coalesce(w.points, 0) <> coalesce(c.pending_points, 0);

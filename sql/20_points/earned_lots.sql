-- What users have, by when it was earned: each posting that brought points, what of it is left, and when that expires.
-- First earned, first spent: what was spent or is held is taken from the oldest. What expired is taken from the lot that
-- it names. Nothing of this is stored, so nothing of it can disagree with the ledger; it costs a walk through the transfers
-- of each user.

create or replace function internal.earned_lots(p_user_ids uuid[])
returns table (
  user_id uuid, event_id uuid, event_type text, program text, earned_at timestamptz, points bigint, remaining bigint, expires_at timestamptz
)
language plpgsql stable
set search_path = ''
set timezone = 'UTC'  -- a day has 24 hours, in whatever zone somebody looks
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return query
  with entry as (
    select t.book_id, t.transfer_id, t.kind, t.recorded_at, t.amount, t.to_account = 'points' as is_lot,
           case when t.to_account = 'points.expired' then x.related_entity_id end as lot_id,
           t.from_account = 'points' and t.to_account <> 'points.expired' as is_spent
      from ledger.transfers as t
      left join lateral (
           select e.related_entity_id from public.points_events as e
            where t.to_account = 'points.expired' and e.user_id = t.book_id and e.id = t.source_id limit 1) as x on true
     where t.book_id = any (p_user_ids) and 'points' in (t.from_account, t.to_account)
  ), taken as (
    select u.book_id, coalesce(a.held, 0) + coalesce((select sum(e.amount) from entry as e where e.book_id = u.book_id and e.is_spent), 0) as points
      from unnest(p_user_ids) as u(book_id)
      left join ledger.accounts as a on a.book_id = u.book_id and a.account = 'points'
  ), expired as (
    select e.book_id, e.lot_id, sum(e.amount) as points from entry as e where e.lot_id is not null group by e.book_id, e.lot_id
  ), lot as (
    select e.*, e.amount - coalesce(x.points, 0) as kept,
           sum(e.amount - coalesce(x.points, 0)) over (partition by e.book_id order by e.recorded_at, e.transfer_id) as running
      from entry as e
      left join expired as x on x.book_id = e.book_id and x.lot_id = e.transfer_id
     where e.is_lot
  )
  select l.book_id, l.transfer_id, l.kind, r.program, l.recorded_at, l.amount,
         greatest(0, least(l.kept, l.running - k.points))::bigint,
         l.recorded_at + make_interval(days => g.expires_after_days)
    from lot as l
    join taken as k on k.book_id = l.book_id
    left join public.points_rules as r on r.event_type = l.kind
    left join public.points_programs as g on g.program = r.program;
end
$$;

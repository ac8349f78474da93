-- Moves points for a set of events and keeps user_points_cache equal to the ledger: the only way points move.
-- Returns what ledger.post says of each event that moves any; the transfer bears the event's id.
--
-- Replay:  an event whose transfer is in the book moves nothing again.
-- Locks:   the accounts, then the cache rows, each in order.
-- Refuses: insufficient_funds, as an outcome.

create or replace function internal.move_points(p_moves internal.points_move[])
returns setof ledger.posted
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  return query
  with posted as materialized (
    select o.*
      from ledger.post(array(
             select row(m.event_id, m.user_id,
                        case when m.points < 0 then 'points' else c.account end,
                        case when m.points < 0 then c.account else 'points' end,
                        abs(m.points), m.kind, 'points_event', m.event_id, m.effective_at)::ledger.posting
               from unnest(p_moves) with ordinality as m(user_id, event_id, points, pending, kind, effective_at, position)
              cross join lateral (
                    select case
                             when m.kind = 'points_expiry' then 'points.expired'
                             -- What was spent and is given back was never spent.
                             when m.points < 0 or m.kind = 'coupon_refund' then 'points.spent'
                             else 'points.issued' end as account) as c
              where m.points <> 0
              order by m.position)) as o
  ), counted as (
    -- Available is earned less spent, so one upsert serves both directions.
    insert into public.user_points_cache as c (
           user_id, available_points, pending_points, lifetime_earned, lifetime_spent, last_event_id, updated_at)
    select m.user_id, greatest(sum(m.points), 0), sum(m.pending), sum(greatest(m.points, 0)), sum(greatest(-m.points, 0)),
           (array_agg(m.event_id order by m.position desc))[1], v_now
      from unnest(p_moves) with ordinality as m(user_id, event_id, points, pending, kind, effective_at, position)
      left join posted as o on o.transfer_id = m.event_id
     where m.points = 0 or o.outcome = 'posted'
     group by m.user_id
     order by m.user_id
    on conflict (user_id) do update
       set available_points = c.available_points + excluded.lifetime_earned - excluded.lifetime_spent,
           pending_points   = c.pending_points + excluded.pending_points,
           lifetime_earned  = c.lifetime_earned + excluded.lifetime_earned,
           lifetime_spent   = c.lifetime_spent + excluded.lifetime_spent,
           last_event_id    = excluded.last_event_id,
           updated_at       = excluded.updated_at
  )
  select o.* from posted as o;
end
$$;

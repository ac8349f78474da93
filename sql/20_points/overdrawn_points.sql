-- Which of these moves would take points that were not there: at the time the spending counts, or at any time after it.
-- A balance that is all right today is not enough; spending put into the past must leave what was spent since.
-- What is held is not there to be spent. Spending is judged in the order of its time; what is refused leaves its points
-- to what comes later.

create or replace function internal.overdrawn_points(p_moves internal.points_move[])
returns table (event_id uuid, available bigint)
language plpgsql volatile
set search_path = ''
as $$
declare
  v_user_id uuid;
  v_accepted bigint;
  v_spending record;
begin
  if not exists (select from unnest(p_moves) as m where m.points < 0) then
    return;
  end if;

  for v_spending in
    with move as (
      select m.*, bool_or(m.points < 0) over (partition by m.user_id) as user_spends
        from unnest(p_moves) with ordinality as m(user_id, event_id, points, pending, kind, effective_at, position)
    ), spender as materialized (
      select distinct m.user_id from move as m where m.user_spends
    ), entry as (
      select t.book_id as user_id, t.effective_at, case when t.to_account = 'points' then t.amount else -t.amount end as points,
             null::uuid as event_id, null::bigint as spent, null::bigint as position
        from ledger.transfers as t
        join spender as s on s.user_id = t.book_id
       where 'points' in (t.from_account, t.to_account)
      union all
      -- What is held is spoken for, and must be there in the end.
      select a.book_id, 'infinity', -a.held, null, null, null
        from ledger.accounts as a
        join spender as s on s.user_id = a.book_id
       where a.account = 'points' and a.held > 0
      union all
      -- What these moves spend does not count yet: the loop below decides that.
      select m.user_id, m.effective_at, greatest(m.points, 0), m.event_id, nullif(greatest(-m.points, 0), 0), m.position
        from move as m
       where m.user_spends
    ), path as (
      select e.*, sum(e.points) over (partition by e.user_id order by e.effective_at) as balance from entry as e
    ), ahead as (
      select p.*, min(p.balance) over (partition by p.user_id order by p.effective_at desc)::bigint as least from path as p
    )
    select a.user_id, a.event_id, a.spent, a.least
      from ahead as a
     where a.spent is not null
     order by a.user_id, a.effective_at, a.position
  loop
    if v_user_id is distinct from v_spending.user_id then
      v_user_id := v_spending.user_id;
      v_accepted := 0;
    end if;
    if v_spending.least - v_accepted >= v_spending.spent then
      v_accepted := v_accepted + v_spending.spent;
    else
      event_id := v_spending.event_id;
      available := greatest(v_spending.least - v_accepted, 0);
      return next;
    end if;
  end loop;
end
$$;

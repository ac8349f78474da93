-- Ends the lots of these users whose time is up; returns how many credits expired. What is reserved outlives its lot, and a
-- tier may let so many of its monthly credits keep for one month more, counted from when they would have ended. Whoever calls
-- it holds internal.lock_credits.
--
-- Replay:  what expired is gone; a second look finds others or none.
-- Locks:   none of its own.
-- Refuses: nothing.

create or replace function internal.expire_credit_lots(p_user_ids uuid[])
returns numeric
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_due uuid[];
  v_ends internal.credit_movement[];
  v_kept uuid[];
  v_expired numeric;
begin
  v_due := array(
    select c.user_id from (select distinct x.user_id from unnest(p_user_ids) as x(user_id)) as u
     cross join lateral (select x.user_id, x.lots_due_at from public.user_credits as x where x.user_id = u.user_id limit 1) as c
     where c.lots_due_at <= v_now);
  if cardinality(v_due) = 0 then
    return 0;
  end if;

  -- A lot of which some can still be lost keeps nothing yet: it is looked at again when what is reserved is settled.
  select coalesce(array_agg(internal.credit_move(l.user_id, -l.loses, 'expiry', p_lot_id => l.grant_id, p_reason => 'Not used in time'))
                  filter (where l.loses > 0), '{}'),
         coalesce(array_agg(l.grant_id) filter (where l.keeps > 0 and l.keeps + l.loses = g.remaining), '{}')
    into v_ends, v_kept
    from internal.ended_credit_lots(v_due) as l
   cross join lateral (
         select x.remaining from public.credit_grants as x where x.user_id = l.user_id and x.grant_id = l.grant_id limit 1) as g;

  select coalesce(sum(-m.amount), 0) into v_expired
    from internal.move_credits(v_ends) as o
    join unnest(v_ends) as m on m.id = o.id
   where o.outcome = 'posted';

  update public.credit_grants as g
     set source = 'rollover', expires_at = g.expires_at + interval '1 month'
    from unnest(v_due) as u(user_id)
   where g.user_id = u.user_id and g.is_open and g.grant_id = any (v_kept);

  update public.user_credits as c
     set lots_due_at = coalesce((
           -- What is reserved has not ended yet. It stays due, so that nobody spends what is given back of it.
           select min(g.expires_at)
             from public.credit_grants as g
            where g.user_id = c.user_id and g.is_open and g.expires_at is not null), 'infinity')
   where c.user_id = any (v_due);
  return v_expired;
end
$$;

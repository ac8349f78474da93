-- Ends the lots of these users whose time is up; returns how many credits expired. What is reserved outlives its lot, and a
-- tier may let so many of its monthly credits keep for one month more. Whoever calls it holds internal.lock_credits.
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
    select c.user_id from unnest(p_user_ids) as u(user_id)
      join lateral (select x.user_id, x.lots_due_at from public.user_credits as x where x.user_id = u.user_id limit 1) as c on true
     where c.lots_due_at <= v_now);
  if cardinality(v_due) = 0 then
    return 0;
  end if;

  with lot as (
    select g.*, t.rollover_max, a.available,
           sum(g.remaining) filter (where g.source = 'allocation') over (
             partition by g.user_id order by g.expires_at desc, g.created_at desc, g.grant_id desc) as allocated_until
      from unnest(v_due) as u(user_id)
      join lateral (select x.* from public.credit_grants as x where x.user_id = u.user_id and x.is_open) as g on true
      join lateral (select x.tier from public.user_credits as x where x.user_id = u.user_id limit 1) as c on true
      left join public.pricing_tiers as t on t.version = internal.pricing_version() and t.tier = c.tier
      join lateral (
           select (x.balance - x.held)::numeric / 1000000 as available from ledger.accounts as x
            where x.book_id = u.user_id and x.account = 'credits' limit 1) as a on true
     where g.expires_at <= v_now
  ), kept as (
    -- Of the monthly credits of a user so many in all, the latest first.
    select l.*, case when l.source = 'allocation'
                     then least(l.remaining, greatest(0, coalesce(l.rollover_max, 0) - (l.allocated_until - l.remaining))) else 0 end as keeps
      from lot as l
  ), ended as (
    select k.*, sum(k.remaining - k.keeps) over (
             partition by k.user_id order by k.expires_at, k.created_at, k.grant_id) as until
      from kept as k
  ), lost as (
    select e.*, greatest(0, least(e.remaining - e.keeps, e.available - (e.until - (e.remaining - e.keeps)))) as loses from ended as e
  )
  select coalesce(array_agg(internal.credit_move(l.user_id, -l.loses, 'expiry', p_lot_id => l.grant_id, p_reason => 'Not used in time'))
                  filter (where l.loses > 0), '{}'),
         coalesce(array_agg(l.grant_id) filter (where l.keeps > 0), '{}')
    into v_ends, v_kept
    from lost as l;

  select coalesce(sum(-m.amount), 0) into v_expired
    from internal.move_credits(v_ends) as o
    join unnest(v_ends) as m on m.id = o.id
   where o.outcome = 'posted';

  update public.credit_grants as g
     set source = 'rollover', expires_at = v_now + interval '1 month'
   where g.user_id = any (v_due) and g.grant_id = any (v_kept);

  update public.user_credits as c
     set lots_due_at = coalesce((
           -- What is held has not ended yet: it is looked at again soon.
           select greatest(min(g.expires_at), v_now + interval '1 minute')
             from public.credit_grants as g
            where g.user_id = c.user_id and g.is_open and g.expires_at is not null), 'infinity')
   where c.user_id = any (v_due);
  return v_expired;
end
$$;

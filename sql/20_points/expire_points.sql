-- Takes back the points whose time is up, of at most p_limit users; returns {"expired": users, "points": n}.
-- Each lot that ends is a points_expiry event of its own, which names the lot. After each look a user's row says until when
-- nothing of theirs expires, so upkeep comes back neither too early nor too late; a change of terms starts a walk through all.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   the users' points accounts, in order; then their cache rows.
-- Refuses: nothing.

create or replace function public.expire_points(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_days_min int := (select min(g.expires_after_days) from public.points_programs as g);
  v_walk internal.points_expiry_walks;
  v_users uuid[];
  v_seen int;
  v_points bigint;
begin
  if v_days_min is null then
    return '{"expired": 0, "points": 0}'::jsonb;
  end if;

  select w.* into v_walk from internal.points_expiry_walks as w for update skip locked;
  if v_walk.walk is not null then
    v_users := array(
      select c.user_id from public.user_points_cache as c where c.user_id > v_walk.done_until order by c.user_id limit p_limit);
    if cardinality(v_users) < p_limit then
      delete from internal.points_expiry_walks as w where w.walk = v_walk.walk;
    else
      update internal.points_expiry_walks as w set done_until = v_users[p_limit] where w.walk = v_walk.walk;
    end if;
  else
    v_users := array(
      select c.user_id from public.user_points_cache as c where c.lots_due_at <= v_now order by c.lots_due_at limit p_limit);
  end if;
  v_seen := cardinality(v_users);

  -- Who has spent meanwhile has done so before the lots are looked at.
  perform ledger.lock(v_users, 'points');

  with lot as materialized (
    select l.* from internal.earned_lots(v_users) as l where l.remaining > 0 and l.expires_at is not null
  ), ended as materialized (
    select l.*, internal.uuidv7() as expiry_id from lot as l where l.expires_at <= v_now order by l.user_id, l.earned_at
  ), moved as materialized (
    select m.transfer_id
      from internal.move_points(array(
             select row(n.user_id, n.expiry_id, -n.remaining, 0, 'points_expiry', v_now)::internal.points_move from ended as n)) as m
     where m.outcome = 'posted'
  ), recorded as (
    insert into public.points_events as e (
           user_id, id, event_type, event_time, points_delta, proof_type, validation_status, validated_at, validated_by,
           related_entity_type, related_entity_id, payload_hash, transfer_id, created_at, updated_at)
    select n.user_id, n.expiry_id, 'points_expiry', v_now, -n.remaining, 'automatic', 'validated', v_now, 'system',
           'points_event', n.event_id, internal.points_event_hash(n.user_id, 'points_expiry', v_now, null, 'points_event', n.event_id),
           n.expiry_id, v_now, v_now
      from ended as n
      join moved as m on m.transfer_id = n.expiry_id
    returning e.points_delta
  )
  select coalesce(-sum(r.points_delta), 0) into v_points from recorded as r;

  -- What is earned from now on keeps for the shortest time there is, or longer.
  update public.user_points_cache as c
     set lots_due_at = least(
           v_now + make_interval(days => v_days_min),
           (select min(l.expires_at) from internal.earned_lots(array[c.user_id]) as l where l.remaining > 0))
   where c.user_id = any (v_users);

  return jsonb_build_object('expired', v_seen, 'points', v_points);
end
$$;

-- Records what clients say happened; awards nothing. Validation decides later and from the same row.
-- Each request is an internal.points_event_request.
--
-- Replay:  the same payload under the same nonce is answered as the first time, with "replayed", for ever.
-- Locks:   none but the rows it writes: nonce, event, then the cache rows in order.
-- Refuses: nonce_reused, unknown_event_type, event_type_not_submittable, event_in_future, event_too_old.
--
-- What is new is written without a look-up: the unique keys say whether it was. Only what was not written is looked at
-- afterwards: is it a replay, or what is wrong with it? It makes no difference then whether the first one came
-- long ago or won a race just now.

create or replace function internal.submit_points_event_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_outcome internal.outcome;
  v_left int[] := array[]::int[];
begin
  perform internal.act_for(array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r));

  for v_outcome in
    with request as materialized (
      select r.*, p.points, internal.uuidv7() as id, internal.points_event_hash(
               r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
               r.proof_payload, r.device_id, r.device_info) as payload_hash,
             p.client_submittable
               and r.event_time between v_now - interval '7 days'
                                    and v_now + interval '10 minutes' as acceptable
        from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
        left join public.points_rules as p on p.event_type = r.event_type
    ), claimed as (
      insert into public.used_nonces as n (user_id, nonce, event_type, payload_hash, created_at)
      select r.user_id, r.nonce, r.event_type, r.payload_hash, v_now from request as r where r.acceptable
      on conflict (user_id, nonce) do nothing
      returning n.user_id
    ), stored as (
      insert into public.points_events as e (
             user_id, id, event_type, event_time, points_delta, proof_payload, related_entity_type, related_entity_id,
             nonce, payload_hash, device_id, device_info, ip_address, request_id, created_at, updated_at)
      select r.user_id, r.id, r.event_type, r.event_time, r.points, r.proof_payload, r.related_entity_type,
             r.related_entity_id, r.nonce, r.payload_hash, r.device_id, r.device_info, r.ip_address, r.request_id,
             v_now, v_now
        from request as r
        join claimed as c on c.user_id = r.user_id
      on conflict (user_id, payload_hash) do nothing
      returning e.user_id, e.id, e.points_delta
    ), counted as (
      insert into public.user_points_cache as c (user_id, pending_points, updated_at)
      select s.user_id, s.points_delta, v_now from stored as s order by s.user_id
      on conflict (user_id) do update
         set pending_points = c.pending_points + excluded.pending_points, updated_at = excluded.updated_at
    )
    select r.ordinality::int,
           case when s.id is not null then jsonb_build_object(
             'id', s.id, 'status', 'pending', 'event_type', r.event_type, 'event_time', r.event_time,
             'created_at', v_now, 'replayed', false) end,
           null::jsonb
      from request as r
      left join stored as s on s.user_id = r.user_id
  loop
    if v_outcome.answer is null then
      v_left := v_left || v_outcome.position;
    else
      return next v_outcome;
    end if;
  end loop;

  if cardinality(v_left) > 0 then
    return query
      select r.ordinality::int,
             case when e.id is not null then jsonb_build_object(
               'id', e.id, 'status', 'pending', 'event_type', e.event_type, 'event_time', e.event_time,
               'created_at', e.created_at, 'replayed', true) end,
             case
               when e.id is not null then null
               when n.nonce is not null then
                 internal.refusal('nonce_reused', format('nonce: %s came with another payload before', r.nonce))
               when p.event_type is null then
                 internal.refusal('unknown_event_type', format('event_type: %s', r.event_type))
               when not p.client_submittable then
                 internal.refusal('event_type_not_submittable', format('event_type: %s', r.event_type))
               when r.event_time > v_now then
                 internal.refusal('event_in_future', format('event_time: %s, and the server''s clock says %s', r.event_time, v_now))
               else
                 internal.refusal('event_too_old', format('event_time: %s is more than 7 days before %s', r.event_time, v_now))
             end
        from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
        left join public.points_rules as p on p.event_type = r.event_type
       -- Lateral, so that each look-up goes by its own key and never through all rows of the call's subjects; and the
       -- hash by itself, because a condition that calls a function is no index condition under row-level security.
       cross join lateral (
             select internal.points_event_hash(
                      r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
                      r.proof_payload, r.device_id, r.device_info) as payload_hash offset 0) as h
        left join lateral (
             select x.nonce from public.used_nonces as x where x.user_id = r.user_id and x.nonce = r.nonce limit 1) as n on true
        left join lateral (
             select x.* from public.points_events as x
              where x.user_id = r.user_id and x.payload_hash = h.payload_hash limit 1) as e on true
       where r.ordinality = any (v_left);
  end if;

  if exists (select from internal.workers as w where w.asleep) then
    perform pg_notify('points_events', '');
  end if;
end
$$;

-- Records what clients say happened; awards nothing. Validation decides later and from the same row.
-- Each request: {user_id, event_type, event_time, nonce, related_entity_type, related_entity_id, proof_payload,
-- attestation, device_id, device_info, ip_address, request_id}.
--
-- Replay:  the same payload under the same nonce is answered as the first time, with "replayed", for ever.
-- Locks:   none but the rows it writes: nonce, event, then the cache rows in order.
-- Refuses: nonce_reused, unknown_event_type, event_type_not_submittable, event_in_future, event_too_old.

create or replace function internal.submit_points_event_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_outcome internal.outcome;
  v_raced int[] := '{}';
begin
  perform internal.act_for(array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r));

  for v_outcome in
    with request as materialized (
      select r.*, h.payload_hash, internal.uuidv7() as id, internal.clock() as created_at
        from rows from (jsonb_to_recordset(p_requests) as (
               user_id uuid, event_type text, event_time timestamptz, nonce text, related_entity_type text,
               related_entity_id uuid, proof_payload jsonb, device_id text, device_info jsonb, ip_address inet,
               request_id text)) with ordinality as r(
               user_id, event_type, event_time, nonce, related_entity_type, related_entity_id, proof_payload,
               device_id, device_info, ip_address, request_id, position)
       cross join lateral internal.points_payload_hash(r.user_id, r.event_type, r.event_time, r.nonce,
               jsonb_build_object('relatedEntityType', r.related_entity_type, 'relatedEntityId', r.related_entity_id,
                 'proofPayload', r.proof_payload, 'deviceId', r.device_id, 'deviceInfo', r.device_info)) as h(payload_hash)
    ), judged as materialized (
      select r.*, e.id as first_id, e.created_at as first_created_at, p.points,
             case
               when e.id is not null then 'replayed'
               when n.nonce is not null then 'nonce_reused'
               when p.event_type is null then 'unknown_event_type'
               when not p.client_submittable then 'event_type_not_submittable'
               when r.event_time > r.created_at + interval '10 minutes' then 'event_in_future'
               when r.event_time < r.created_at - interval '7 days' then 'event_too_old'
             end as verdict
        from request as r
        left join public.points_events as e on e.user_id = r.user_id and e.payload_hash = r.payload_hash
        left join public.used_nonces as n on n.user_id = r.user_id and n.nonce = r.nonce
        left join public.points_rules as p on p.event_type = r.event_type
    ), claimed as (
      insert into public.used_nonces as n (user_id, nonce, event_type, payload_hash)
      select j.user_id, j.nonce, j.event_type, j.payload_hash from judged as j where j.verdict is null
      on conflict (user_id, nonce) do nothing
      returning n.user_id
    ), stored as (
      insert into public.points_events as e (
             user_id, id, event_type, event_time, points_delta, proof_payload, related_entity_type, related_entity_id,
             nonce, payload_hash, device_id, device_info, ip_address, request_id, created_at, updated_at)
      select j.user_id, j.id, j.event_type, j.event_time, j.points, j.proof_payload, j.related_entity_type,
             j.related_entity_id, j.nonce, j.payload_hash, j.device_id, j.device_info, j.ip_address, j.request_id,
             j.created_at, j.created_at
        from judged as j
        join claimed as c on c.user_id = j.user_id
      returning e.user_id, e.id, e.points_delta
    ), counted as (
      insert into public.user_points_cache as c (user_id, pending_points)
      select s.user_id, s.points_delta from stored as s order by s.user_id
      on conflict (user_id) do update
         set pending_points = c.pending_points + excluded.pending_points, updated_at = excluded.updated_at
    )
    select j.position::int,
           case when s.id is not null or j.verdict = 'replayed' then jsonb_build_object(
             'id', coalesce(s.id, j.first_id), 'status', 'pending', 'event_type', j.event_type, 'event_time', j.event_time,
             'created_at', coalesce(j.first_created_at, j.created_at), 'replayed', s.id is null) end,
           case when j.verdict <> 'replayed' then internal.refusal(j.verdict, case j.verdict
             when 'nonce_reused' then format('nonce: %s came with another payload before', j.nonce)
             when 'event_in_future' then format('event_time: %s, and the server''s clock says %s', j.event_time, j.created_at)
             when 'event_too_old' then format('event_time: %s is more than 7 days before %s', j.event_time, j.created_at)
             else format('event_type: %s', j.event_type) end) end
      from judged as j
      left join stored as s on s.user_id = j.user_id
  loop
    if v_outcome.answer is null and v_outcome.refusal is null then
      v_raced := v_raced || v_outcome.position;
    else
      return next v_outcome;
    end if;
  end loop;

  -- Whoever lost the race for a nonce asks again and finds the winner.
  if cardinality(v_raced) > 0 then
    return query
      select v_raced[o.position], o.answer, o.refusal
        from internal.submit_points_event_batch(
               (select jsonb_agg(p_requests -> (p - 1) order by n) from unnest(v_raced) with ordinality as x(p, n))) as o;
  end if;

  if exists (select from internal.workers as w where w.asleep) then
    perform pg_notify('points_events', '');
  end if;
end
$$;

-- Records what clients say happened; awards nothing. Validation decides later and from the same row.
-- Each request is an internal.points_event_request.
--
-- Replay:  the same payload under the same nonce is answered as the first time, with "replayed", for ever.
-- Locks:   each user against other submissions of theirs, in order; challenges and device keys; then the rows it writes:
--          nonce, event, cache rows.
-- Refuses: attestation_failed, nonce_reused, unknown_event_type, event_type_not_submittable, proof_type_not_accepted, event_in_future,
--          event_too_old, rate_limited.
--
-- What is new is written without a look-up: the unique keys say whether it was. Only what was not written is looked at
-- afterwards: is it a replay, or what is wrong with it? It makes no difference then whether the first one came
-- long ago or won a race just now.
--
-- Limits are counted from the events themselves, so there is no counter that could drift, a refused request and a replay
-- use nothing up, and a changed limit holds at once. A user's own lock makes the count exact. The ids, which are ordered
-- by time, lead to the last day's events; the day of the server's clock is what counts.

create or replace function internal.submit_points_event_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_floor uuid := internal.uuidv7_floor(clock_timestamp() - interval '25 hours');
  v_outcome internal.outcome;
  v_left int[] := array[]::int[];
  v_failed int[] := array[]::int[];     -- whose device's evidence is refused, and why
  v_reasons text[] := array[]::text[];
  v_waiting uuid[] := array[]::uuid[];  -- whose evidence is checked again later
begin
  perform internal.act_for(array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r));
  perform pg_advisory_xact_lock(l.key)
     from (select hashtextextended(r ->> 'user_id', 20) as key from jsonb_array_elements(p_requests) as r order by 1) as l;

  -- Most requests bring no evidence of a device. A replay has used its own up already.
  if jsonb_path_exists(p_requests, '$[*].attestation.platform') then
    select coalesce(array_agg(s."position"), v_failed), coalesce(array_agg(s.reason), v_reasons) into v_failed, v_reasons
      from internal.settle_attestations(array(
             select row(r.ordinality, r.user_id, 'submit', r.request_id,
                        jsonb_populate_record(null::internal.attestation_evidence, r.attestation))::internal.attestation_claim
               from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
              cross join lateral (
                    select internal.points_event_hash(
                             r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
                             r.proof_payload, r.device_id, r.device_info, r.proof_type) as payload_hash offset 0) as h
              where r.attestation ? 'platform'
                and not exists (select from public.points_events as e where e.user_id = r.user_id and e.payload_hash = h.payload_hash))) as s;
  end if;

  for v_outcome in
    with kin as materialized (
      select p.program, array_agg(p.event_type) as event_types from public.points_rules as p where p.client_submittable group by p.program
    ), request as materialized (
      select r.*, p.points, internal.uuidv7() as id, internal.points_event_hash(
               r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
               r.proof_payload, r.device_id, r.device_info, r.proof_type) as payload_hash,
             g.events_per_hour_max, u.events_hour, u.hour_since,
             p.client_submittable
               and coalesce(r.proof_type, 'internal') = any (p.proof_types)
               and r.event_time between v_now - interval '7 days' and v_now + interval '10 minutes'
               and r.ordinality <> all (v_failed) as acceptable,
             (u.events_hour >= g.events_per_hour_max
              or u.events_day >= g.events_per_day_max
              or u.of_type_day >= p.daily_max
              or u.points_hour + p.points > g.points_per_hour_max
              or u.points_day + p.points > g.points_per_day_max) is true as exceeded
        from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
        left join public.points_rules as p on p.event_type = r.event_type
        left join public.points_programs as g on g.program = p.program
        left join kin as k on k.program = p.program
        left join lateral (
             select count(*) as events_day,
                    count(*) filter (where e.created_at > v_now - interval '1 hour') as events_hour,
                    min(e.created_at) filter (where e.created_at > v_now - interval '1 hour') as hour_since,
                    count(*) filter (where e.event_type = r.event_type) as of_type_day,
                    coalesce(sum(e.points_delta) filter (where e.validation_status <> 'rejected'), 0) as points_day,
                    coalesce(sum(e.points_delta) filter (
                      where e.validation_status <> 'rejected' and e.created_at > v_now - interval '1 hour'), 0) as points_hour
               from public.points_events as e
              where e.user_id = r.user_id and e.id >= v_floor and e.created_at > v_now - interval '1 day'
                and e.event_type = any (k.event_types) and e.proof_type <> 'automatic') as u on true
    ), claimed as (
      insert into public.used_nonces as n (user_id, nonce, event_type, payload_hash, created_at)
      select r.user_id, r.nonce, r.event_type, r.payload_hash, v_now from request as r where r.acceptable and not r.exceeded
      on conflict (user_id, nonce) do nothing
      returning n.user_id
    ), stored as (
      insert into public.points_events as e (
             user_id, id, event_type, event_time, points_delta, proof_type, proof_payload, related_entity_type, related_entity_id,
             nonce, payload_hash, device_id, device_info, ip_address, attestation, device_key, request_id, created_at,
             updated_at)
      select r.user_id, r.id, r.event_type, r.event_time, r.points, coalesce(r.proof_type, 'internal'), r.proof_payload,
             r.related_entity_type, r.related_entity_id, r.nonce, r.payload_hash, r.device_id, r.device_info, r.ip_address,
             r.attestation ->> 'status', r.attestation ->> 'key_id', r.request_id, v_now, v_now
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
             'created_at', v_now, 'replayed', false, 'rate_limit', case when r.events_per_hour_max is not null then jsonb_build_object(
               'policy', 'events_per_hour', 'quota', r.events_per_hour_max, 'window_seconds', 3600,
               'remaining', r.events_per_hour_max - r.events_hour - 1,
               'reset_seconds', ceil(3600 - extract(epoch from v_now - coalesce(r.hour_since, v_now)))::int) end) end,
           null::jsonb
      from request as r
      left join stored as s on s.user_id = r.user_id
  loop
    if v_outcome.answer is null then
      v_left := v_left || v_outcome.position;
    else
      return next v_outcome;
      if p_requests -> (v_outcome.position - 1) -> 'attestation' @> '{"status": "unavailable"}' then
        v_waiting := v_waiting || (v_outcome.answer ->> 'id')::uuid;
      end if;
    end if;
  end loop;

  if cardinality(v_waiting) > 0 then
    insert into public.attestation_rechecks (user_id, event_id, token, request_hash, received_at, due_at)
    select e.user_id, e.id, r.attestation ->> 'token', r.attestation ->> 'request_hash', v_now, v_now + interval '10 seconds'
      from jsonb_populate_recordset(null::internal.points_event_request, p_requests) as r
     cross join lateral (
           select x.user_id, x.id from public.points_events as x
            where x.user_id = r.user_id and x.id = any (v_waiting)) as e
     where r.attestation ->> 'status' = 'unavailable';
  end if;

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
               when r.ordinality = any (v_failed) then
                 internal.refusal('attestation_failed', format('reason: %s', v_reasons[array_position(v_failed, r.ordinality::int)]))
               when p.event_type is null then
                 internal.refusal('unknown_event_type', format('event_type: %s', r.event_type))
               when not p.client_submittable then
                 internal.refusal('event_type_not_submittable', format('event_type: %s', r.event_type))
               when not coalesce(r.proof_type, 'internal') = any (p.proof_types) then
                 internal.refusal('proof_type_not_accepted', format('proof_type: %s takes %s', r.event_type, array_to_string(p.proof_types, ', ')))
               when r.event_time > v_now + interval '10 minutes' then
                 internal.refusal('event_in_future', format('event_time: %s, and the server''s clock says %s', r.event_time, v_now))
               when r.event_time < v_now - interval '7 days' then
                 internal.refusal('event_too_old', format('event_time: %s is more than 7 days before %s', r.event_time, v_now))
               else
                 internal.refusal('rate_limited', internal.points_limit_detail(r.user_id, r.event_type))
             end
        from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
        join unnest(v_left) as x(position) on x.position = r.ordinality
        left join public.points_rules as p on p.event_type = r.event_type
       -- Lateral, so that each look-up goes by its own key and never through all rows of the call's subjects; and the
       -- hash by itself, because a condition that calls a function is no index condition under row-level security.
       cross join lateral (
             select internal.points_event_hash(
                      r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
                      r.proof_payload, r.device_id, r.device_info, r.proof_type) as payload_hash offset 0) as h
        left join lateral (
             select x.nonce from public.used_nonces as x where x.user_id = r.user_id and x.nonce = r.nonce limit 1) as n on true
        left join lateral (
             select x.* from public.points_events as x
              where x.user_id = r.user_id and x.payload_hash = h.payload_hash limit 1) as e on true;
  end if;

  if exists (select from internal.workers as w where w.asleep) then
    perform pg_notify('points_events', '');
  end if;
end
$$;

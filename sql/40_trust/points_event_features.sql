-- What is known of each event when it is judged, as numbers a rule can compare; what is not known is left out, and no rule
-- hits for it. Only what the user sent before counts: of two events that do not go together, the later to arrive is the
-- suspect. Whatever else the user did is found in one scan, of the day on either side of the event's own time.
--
-- `list` is what a person decided about the user, the device or the address, the strictest first.

create or replace function internal.points_event_features(p_events public.points_events[])
returns setof internal.points_assessed
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_sendable text[] := array(select r.event_type from public.points_rules as r where r.client_submittable);
  v_baits text[] := array(select r.event_type from public.points_rules as r where r.is_honeypot);
  v_listing boolean := exists (select from public.trust_lists);
begin
  return query
  select e.user_id, e.id, jsonb_strip_nulls(jsonb_build_object(
           'seconds_to_nearest_event', extract(epoch from h.nearest),
           'events_in_hour', h.in_hour,
           'arrived_in_minute', h.arrived,
           'repeated_proof', h.repeated,
           'timing_spread_seconds', case when cardinality(h.times) = 6 then extract(epoch from
             greatest(e.event_time - h.times[1], h.times[1] - h.times[2], h.times[2] - h.times[3],
                      h.times[3] - h.times[4], h.times[4] - h.times[5], h.times[5] - h.times[6])
             - least(e.event_time - h.times[1], h.times[1] - h.times[2], h.times[2] - h.times[3],
                     h.times[3] - h.times[4], h.times[4] - h.times[5], h.times[5] - h.times[6])) end,
           'seconds_ahead', greatest(extract(epoch from e.event_time - e.created_at), 0),
           'hours_late', trunc(greatest(extract(epoch from e.created_at - e.event_time) / 3600, 0), 2),
           'account_age_days', trunc(extract(epoch from e.created_at - u.created_at) / 86400, 2),
           'device_accounts', case when e.device_id is not null or e.device_key is not null then greatest((
             select count(*) from (
               select from public.device_users as d
                where d.device_id = e.device_id and (d.first_seen_at <= e.created_at or d.user_id = e.user_id)
                limit 30) as d), (
             select count(*) from (
               select from public.device_key_users as d
                where d.key_id = e.device_key and d.first_seen_at <= e.created_at limit 30) as d)) end,  -- a farm of more is no worse, and every web browser may be called the same
           'device_is_known', case
             when e.device_id is null then null
             when exists (select from public.device_users as d
                           where d.device_id = e.device_id and d.user_id = e.user_id and d.first_seen_at < e.created_at) then 1
             when exists (select from public.device_users as d
                           where d.user_id = e.user_id and d.first_seen_at < e.created_at) then 0 end,
           'entity_owned', case
             when e.related_entity_id is null then null
             when exists (select from public.entity_owners as o
                           where o.entity_type = e.related_entity_type and o.entity_id = e.related_entity_id
                             and o.user_id = e.user_id) then 1
             when exists (select from public.entity_owners as o
                           where o.entity_type = e.related_entity_type and o.entity_id = e.related_entity_id) then 0 end,
           'open_insights', (
             select count(*) from public.fraud_insights as f
              where f.user_id = e.user_id and f.created_at >= e.created_at - interval '24 hours' and f.created_at < e.created_at
                and f.severity in ('high', 'critical') and not f.resolved),
           'honeypot', (e.event_type = any (v_baits))::int,
           'attestation', case e.attestation when 'verified' then 1 when 'missing' then 0 when 'unsupported' then 0 when 'failed' then -1 end,
           -- What a person gave is for a person to decide, however it came to wait here.
           'list', case when e.proof_type = 'manual_admin' and l.list is distinct from 'deny' then 'watch' else l.list end,
           'list_subject', coalesce(l.subject_type, case when e.proof_type = 'manual_admin' then 'award' end),
           'list_reason', l.reason))
    from unnest(p_events) as e
    left join internal.account_created_at(array(select distinct x.user_id from unnest(p_events) as x)) as u
      on u.user_id = e.user_id
   cross join lateral (
         select min(greatest(o.event_time - e.event_time, e.event_time - o.event_time)) filter (
                  where o.event_time between e.event_time - interval '1 minute'
                                         and e.event_time + interval '1 minute') as nearest,
                count(*) filter (where o.event_time between e.event_time - interval '1 hour' and e.event_time) as in_hour,
                count(*) filter (where o.created_at >= e.created_at - interval '1 minute') as arrived,
                -- A large payload would have to be unpacked for each comparison, and anyone can make it differ in one byte.
                -- What an app says of itself may say the same every day; a measurement of somebody else's does not.
                count(*) filter (where e.proof_type in ('google_fit', 'apple_health') and e.proof_payload <> '{}'
                  and pg_column_size(o.proof_payload) < 8192 and o.proof_payload = e.proof_payload) as repeated,
                (array_agg(o.event_time order by o.event_time desc) filter (where o.event_time <= e.event_time))[1:6] as times
           from public.points_events as o
          where o.user_id = e.user_id
            and o.event_time between e.event_time - interval '1 day' and e.event_time + interval '1 day'
            and o.event_type = any (v_sendable)
            and (o.id < e.id) is true) as h  -- "is true" keeps the planner from going by the id instead of the time
    left join lateral (
         select t.list, t.subject_type, t.reason
           from (values ('user', e.user_id::text), ('device', e.device_id), ('address', host(e.ip_address))
                 union all
                 select 'address', network(set_masklen(e.ip_address, m.length))::text
                   from unnest(case family(e.ip_address) when 4 then '{24,16,8}'::int[] else '{64,56,48,32}' end) as m(length)
                ) as s(subject_type, subject)
           join public.trust_lists as t on t.subject_type = s.subject_type and t.subject = s.subject
          where t.expires_at is null or t.expires_at > v_now
          order by array_position('{deny,watch,allow}', t.list)
          limit 1) as l on v_listing;
end
$$;

-- Brings in what happened before this book was kept: events at the time at which they count, validated, posted, and
-- recorded now. Takes up to 1,000, each by itself: what is refused is named and left out, the others come in.
-- p_source names where they come from. Each event: {line, user_id, event_type, event_time, points, key, occurrence}.
-- `key` is the source's own id of the event; without one, `occurrence` tells equal events of a user apart: 1, 2, …
-- Points may be nothing, which is kept as an event, or below zero.
-- The answer: {imported, points, known, refused: [{line, code, detail}]}, with the sum of the points that came in.
--
-- Replay:  an event that is there already is counted as known.
-- Locks:   the users' points accounts, then their cache rows, each in order; then the events it writes.
-- Refuses: the call: invalid_body. An event: invalid_body, nonce_reused, unknown_event_type, event_type_not_submittable,
--          event_in_future, insufficient_funds.

create or replace function public.import_points_events(p_source text, p_events jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_answer jsonb;
  v_raced boolean;
begin
  if p_source is null or p_source !~ '^[^[:cntrl:]]{1,100}$' then
    perform internal.refuse('invalid_body', 'source: must have 1 to 100 characters');
  end if;
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) > 1000 then
    perform internal.refuse('invalid_body', 'events: must be an array of at most 1000');
  end if;

  for v_try in 1 .. 5 loop
    begin
      perform ledger.lock(array(select distinct (e ->> 'user_id')::uuid from jsonb_array_elements(p_events) as e), 'points');

      with line as materialized (
        select l.*, encode(sha256(convert_to(jsonb_build_array('import', p_source, l.user_id, l.key,
                 case when l.key is null then jsonb_build_array(l.event_type, l.event_time, l.points, coalesce(l.occurrence, 1)) end
               )::text, 'UTF8')), 'hex') as payload_hash
          from rows from (jsonb_to_recordset(p_events) as (
                 line bigint, user_id uuid, event_type text, event_time timestamptz, points bigint, key text, occurrence int))
               with ordinality as l(line, user_id, event_type, event_time, points, key, occurrence, position)
      ), judged as materialized (
        select l.*,
               case
                 when num_nulls(l.line, l.user_id, l.event_type, l.event_time, l.points) > 0 or not isfinite(l.event_time)
                      or l.points not between -2147483647 and 2147483647 then 'invalid_body'
                 when e.id is not null and (e.event_type, e.event_time, e.points_delta)
                      is distinct from (l.event_type, l.event_time, l.points) then 'nonce_reused'
                 when e.id is not null then 'known'
                 when r.event_type is null then 'unknown_event_type'
                 -- The other types belong to something else, a coupon for one, which a line of history does not bring along.
                 when not r.client_submittable and r.event_type not in ('history_import', 'admin_award', 'admin_deduction')
                      then 'event_type_not_submittable'
                 when l.event_time > internal.clock() + interval '10 minutes' then 'event_in_future'
               end as verdict
          from line as l
          left join lateral (select x.id, x.event_type, x.event_time, x.points_delta from public.points_events as x
                              where x.user_id = l.user_id and x.payload_hash = l.payload_hash limit 1) as e on true
          left join public.points_rules as r on r.event_type = l.event_type
      ), paired as materialized (
        -- The first of those that are one event within this call speaks for the others.
        select j.*, first_value(j.position) over same as first_position,
               (j.event_type, j.event_time, j.points) is distinct from
               (first_value(j.event_type) over same, first_value(j.event_time) over same, first_value(j.points) over same) as differs
          from judged as j
        window same as (partition by j.user_id, j.payload_hash, j.verdict is null order by j.position)
      ), fresh as materialized (
        -- Earned before spent, so that the ledger, which takes moves in this order, sees what there is to spend.
        select o.*, internal.uuidv7() as id
          from (select p.* from paired as p
                 where p.verdict is null and p.position = p.first_position
                 order by p.points < 0, p.event_time, p.position) as o
      ), overdrawn as materialized (
        select d.event_id, d.available
          from internal.overdrawn_points(array(
                 select row(f.user_id, f.id, f.points, 0, f.event_type, f.event_time)::internal.points_move
                   from fresh as f
                  order by f.position)) as d
      ), decided as materialized (
        select f.*, d.event_id is not null as is_overdrawn, d.available from fresh as f left join overdrawn as d on d.event_id = f.id
      ), posted as materialized (
        select m.outcome
          from internal.move_points(array(
                 select row(d.user_id, d.id, d.points, 0, d.event_type, d.event_time)::internal.points_move
                   from decided as d
                  where not d.is_overdrawn
                  order by d.id)) as m
      ), recorded as (
        insert into public.points_events as e (
               user_id, id, event_type, event_time, points_delta, proof_type, proof_payload, validation_status,
               validated_at, validated_by, nonce, payload_hash, transfer_id)
        select d.user_id, d.id, d.event_type, d.event_time, d.points, 'automatic', jsonb_build_object('line', d.line),
               'validated', internal.clock(), 'import:' || p_source, d.key, d.payload_hash, case when d.points <> 0 then d.id end
          from decided as d
         where not d.is_overdrawn
      ), refused as (
        select d.line, 'insufficient_funds' as code, format('points: there were %s to take %s from', d.available, -d.points) as detail
          from decided as d
         where d.is_overdrawn
        union all
        select p.line, 'nonce_reused', format('key: %s came with another event before', p.key)
          from paired as p
         where p.verdict is null and p.differs
        union all
        -- What is the same event as one that was refused.
        select p.line, 'insufficient_funds', format('points: as for line %s', d.line)
          from paired as p
          join decided as d on d.position = p.first_position and d.is_overdrawn
         where p.verdict is null and p.position > p.first_position and not p.differs
        union all
        select p.line, p.verdict, case p.verdict
                 when 'invalid_body' then 'something is missing or out of range'
                 when 'nonce_reused' then format('key: %s came with another event before', p.key)
                 when 'event_in_future' then format('event_time: %s lies in the future', p.event_time)
                 else format('event_type: %s', p.event_type) end
          from paired as p
         where p.verdict <> 'known'
      ), come as (
        select count(*) as imported, coalesce(sum(d.points), 0) as points from decided as d where not d.is_overdrawn
      ), gone as (
        select count(*) as refused, coalesce(jsonb_agg(to_jsonb(r) order by r.line), '[]') as refusals from refused as r
      )
      select jsonb_build_object('imported', c.imported, 'points', c.points, 'known', jsonb_array_length(p_events) - c.imported - g.refused,
               'refused', g.refusals),
             exists (select from posted as m where m.outcome <> 'posted')
        into v_answer, v_raced
        from come as c, gone as g;
      if not v_raced then
        exit;
      end if;
      raise unique_violation using message = 'the accounts changed under the import';
    exception
      -- Users who have no account yet have no lock to wait at: two imports of one file meet only here, where the later
      -- starts again and finds what the earlier brought.
      when unique_violation then
        if v_try = 5 then
          raise;
        end if;
    end;
  end loop;
  return v_answer;
end
$$;

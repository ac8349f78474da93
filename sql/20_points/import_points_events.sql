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
set enable_nestloop = off  -- the planner takes a thousand lines for a few, and would compare each with each
as $$
declare
  v_answer jsonb;
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
                  where f.user_id in (select s.user_id from fresh as s where s.points < 0)
                  order by f.position)) as d
      ), posted as materialized (
        select m.transfer_id, m.outcome
          from internal.move_points(array(
                 select row(f.user_id, f.id, f.points, 0, f.event_type, f.event_time)::internal.points_move
                   from fresh as f
                  where not exists (select from overdrawn as d where d.event_id = f.id)
                  order by f.id)) as m
      ), recorded as (
        -- A key that another import took meanwhile is an error here, and this one starts again.
        insert into public.points_events as e (
               user_id, id, event_type, event_time, points_delta, proof_type, proof_payload, validation_status,
               validated_at, validated_by, nonce, payload_hash, transfer_id)
        select f.user_id, f.id, f.event_type, f.event_time, f.points, 'automatic', jsonb_build_object('line', f.line),
               'validated', internal.clock(), 'import:' || p_source, f.key, f.payload_hash, m.transfer_id
          from fresh as f
          left join posted as m on m.transfer_id = f.id and m.outcome = 'posted'
         where m.transfer_id is not null or f.points = 0
        returning e.user_id, e.id
      ), outcome as (
        select p.line, p.event_type, p.event_time, p.points, p.key, d.available, w.id is not null and p.position = p.first_position as imported,
               case
                 when p.verdict is null and p.position > p.first_position and p.differs then 'nonce_reused'
                 when p.verdict is null and w.id is null then 'insufficient_funds'
                 when p.verdict <> 'known' then p.verdict
               end as code
          from paired as p
          left join fresh as f on p.verdict is null and f.position = p.first_position
          left join recorded as w on w.user_id = f.user_id and w.id = f.id
          left join overdrawn as d on d.event_id = f.id
      )
      select jsonb_build_object(
               'imported', count(*) filter (where o.imported),
               'points', coalesce(sum(o.points) filter (where o.imported), 0),
               'known', count(*) filter (where o.code is null and not o.imported),
               'refused', coalesce(jsonb_agg(jsonb_build_object('line', o.line, 'code', o.code, 'detail', case o.code
                 when 'invalid_body' then 'something is missing or out of range'
                 when 'nonce_reused' then format('key: %s came with another event before', o.key)
                 when 'event_in_future' then format('event_time: %s lies in the future', o.event_time)
                 when 'insufficient_funds' then format('points: there were %s to take %s from', coalesce(o.available::text, 'too few'), -o.points)
                 else format('event_type: %s', o.event_type) end) order by o.line) filter (where o.code is not null), '[]'))
        into v_answer
        from outcome as o;
      return v_answer;
    exception
      -- Users who have no account yet have no lock to wait at: two imports of one file meet only here.
      when unique_violation then
        if v_try = 5 then
          raise;
        end if;
    end;
  end loop;
end
$$;

-- The events that wait to be decided, locked: the oldest p_limit that nobody else has, or the one that is named, for which
-- it waits. Null when there are none. An event whose device's evidence could not be checked waits a quarter of an hour for
-- that.
--
-- Locks:   the events, skipping those another worker has.
-- Refuses: event_not_found, when one is named and is not pending.

create or replace function internal.pending_points_events(p_event_id uuid, p_limit int)
returns public.points_events[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_events public.points_events[];
begin
  if p_event_id is null then
    select array_agg(c.event) into v_events
      from (select e as event
              from public.points_events as e
             where e.validation_status = 'pending' and e.transfer_id is null
               and (e.attestation is distinct from 'unavailable' or e.created_at <= internal.clock() - interval '15 minutes')
             order by e.id
             limit p_limit
               for update skip locked) as c;
    return v_events;
  end if;
  select array_agg(c.event) into v_events
    from (select e as event
            from public.points_events as e
           where e.validation_status = 'pending' and e.transfer_id is null and e.id = p_event_id
             for update) as c;
  if v_events is null then
    perform internal.refuse('event_not_found', format('event_id: %s is not pending', p_event_id));
  end if;
  return v_events;
end
$$;

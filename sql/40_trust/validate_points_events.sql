-- Decides pending events: judges them, validates, sends to review or rejects, and posts the points of what it validates.
-- Takes the oldest p_limit, or the one that is named. Several workers share the queue without waiting for one another.
-- p_user_id is the administrator who asks; a worker and the service bring none.
--
-- An event that cannot be decided is taken out of the queue, so that the others go on: it is 'flagged', an administrator
-- decides it, and the audit log has the error. When a set of several fails whole, no event is to blame, and it is an error.
--
-- Replay:  a decided event is not pending any more; a second run finds others or none.
-- Locks:   the events, skipping those another worker has; then devices, accounts and cache rows, each in order.
-- Refuses: forbidden, to a user who is no administrator; unavailable, when no trust policy is active; event_not_found,
--          when one is named and is not pending.

create or replace function public.validate_points_events(
  p_event_id uuid default null,
  p_limit    int default 1000,
  p_user_id  uuid default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_events public.points_events[];
  v_event public.points_events;
  v_state text;
  v_message text;
  v_one jsonb;
  v_answer jsonb := jsonb_build_object(
    'validated', 0, 'pending_review', 0, 'rejected', 0, 'flagged', 0, 'events', '[]'::jsonb, 'insights', '[]'::jsonb);
begin
  if p_user_id is not null then
    perform internal.actor(p_user_id);
  end if;

  begin
    v_events := internal.pending_points_events(p_event_id, p_limit);
    if v_events is null then
      return v_answer;
    end if;
    return internal.decide_points_events(v_events);
  exception when others then
    -- A value, a constraint or a procedure that says no may be one event's fault. Anything else is not.
    if sqlstate !~ '^(22|23|54|P0|PT4)' or v_events is null then
      raise;
    end if;
    v_state := sqlstate;
    v_message := sqlerrm;
  end;

  v_events := internal.pending_points_events(p_event_id, p_limit);
  -- By users, because each event locks its own account here.
  for v_event in select e.* from unnest(v_events) as e order by e.user_id, e.id loop
    begin
      v_one := internal.decide_points_events(array[v_event]);
    exception when others then
      if sqlstate !~ '^(22|23|54|P0|PT4)' then
        raise;
      end if;
      v_one := internal.flag_points_event(v_event, sqlstate, sqlerrm);
    end;
    v_answer := jsonb_build_object(
      'validated', (v_answer -> 'validated')::int + (v_one -> 'validated')::int,
      'pending_review', (v_answer -> 'pending_review')::int + (v_one -> 'pending_review')::int,
      'rejected', (v_answer -> 'rejected')::int + (v_one -> 'rejected')::int,
      'flagged', (v_answer -> 'flagged')::int + (v_one -> 'flagged')::int,
      'events', (v_answer -> 'events') || (v_one -> 'events'),
      'insights', (v_answer -> 'insights') || (v_one -> 'insights'));
  end loop;
  if cardinality(v_events) > 1 and (v_answer -> 'flagged')::int = cardinality(v_events) then
    raise exception using errcode = v_state, message = v_message;
  end if;
  return v_answer;
end
$$;

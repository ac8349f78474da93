-- Takes an event that cannot be decided out of the queue, for a person to decide. Its user may read the state, and only
-- the audit log has the error's own words.

create or replace function internal.flag_points_event(p_event public.points_events, p_state text, p_message text)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
  update public.points_events as e
     set validation_status = 'flagged', validation_notes = format('It could not be decided: %s', p_state),
         updated_at = internal.clock()
   where e.user_id = p_event.user_id and e.id = p_event.id;
  perform internal.audit(
    'system', 'points_event.flagged', 'points_event', p_event.id::text, p_message,
    jsonb_build_object('validation_status', p_event.validation_status),
    jsonb_build_object('validation_status', 'flagged', 'state', p_state));
  return jsonb_build_object(
    'validated', 0, 'pending_review', 0, 'rejected', 0, 'flagged', 1,
    'events', jsonb_build_array(jsonb_build_object(
      'event_id', p_event.id, 'user_id', p_event.user_id, 'validation_status', 'flagged',
      'trust_score', null, 'points_awarded', 0)),
    'insights', jsonb_build_array());
end
$$;

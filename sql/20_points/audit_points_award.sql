-- Writes down an award or a deduction, however it comes: the procedure's, or the row that an operator's runbook inserts.
--
-- Locks:   none.
-- Refuses: nothing.

create or replace function internal.audit_points_award()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform internal.audit(
    coalesce(new.validated_by, session_user), 'points.award', 'points_event', new.id::text, new.validation_notes, null,
    jsonb_build_object('user_id', new.user_id, 'points', new.points_delta, 'status', new.validation_status), new.request_id);
  return null;
end
$$;

create or replace trigger points_awards_are_audited
after insert on public.points_events
for each row
when (new.event_type in ('admin_award', 'admin_deduction'))
execute function internal.audit_points_award();

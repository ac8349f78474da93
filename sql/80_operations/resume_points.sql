-- Takes a suspension back: what it had stopped is pending and on offer again, what was decided meanwhile stays decided.
-- Returns {events, templates}: how many of each.
--
-- Replay:  a second call finds nothing to resume.
-- Locks:   the templates, the events.
-- Refuses: forbidden, reason_required.

create or replace function public.resume_points(
  p_user_id    uuid,
  p_reason     text,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_since timestamptz;
  v_events int;
  v_templates int;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  select coalesce(max(a.recorded_at), '-infinity') into v_since from public.audit_log as a where a.action = 'points.resume';
  update public.coupon_templates as t
     set is_active = true
   where not t.is_active
     and t.template_id in (
         select x.template_id::uuid
           from public.audit_log as a
          cross join lateral jsonb_array_elements_text(a.after -> 'templates') as x(template_id)
          where a.action = 'points.suspend' and a.recorded_at > v_since);
  get diagnostics v_templates = row_count;
  update public.points_events as e
     set validation_status = 'pending', validation_notes = null, updated_at = internal.clock()
   where e.validation_status = 'pending_review' and e.validation_notes = 'suspended' and e.transfer_id is null;
  get diagnostics v_events = row_count;
  perform internal.audit(v_actor, 'points.resume', 'points_system', 'points', p_reason, null,
    jsonb_build_object('events', v_events, 'templates', v_templates), p_request_id);
  return jsonb_build_object('events', v_events, 'templates', v_templates);
end
$$;

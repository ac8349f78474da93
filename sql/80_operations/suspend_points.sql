-- Stops the features and keeps the data, as a partial rollback: every pending event waits for a review, nothing is on offer.
-- Returns {events, templates}: how many of each. resume_points takes it back.
--
-- Replay:  a second call finds nothing to stop.
-- Locks:   the templates on offer, the pending events.
-- Refuses: forbidden, reason_required.

create or replace function public.suspend_points(
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
  v_events int;
  v_templates uuid[];
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  with off as (
    update public.coupon_templates as t set is_active = false where t.is_active returning t.template_id
  )
  select coalesce(array_agg(o.template_id), '{}') into v_templates from off as o;
  update public.points_events as e
     set validation_status = 'pending_review', validation_notes = 'suspended', updated_at = internal.clock()
   where e.validation_status = 'pending' and e.transfer_id is null;
  get diagnostics v_events = row_count;
  perform internal.audit(v_actor, 'points.suspend', 'points_system', 'points', p_reason, null,
    jsonb_build_object('events', v_events, 'templates', v_templates), p_request_id);
  return jsonb_build_object('events', v_events, 'templates', cardinality(v_templates));
end
$$;

-- Closes an insight, with what was found out. The user's next events are then judged without it.
--
-- Replay:  the same person saying the same again is answered as the first time, with "replayed".
-- Locks:   the insight.
-- Refuses: forbidden, reason_required, insight_not_found, own_event (what is about themselves), already_resolved.

create or replace function public.resolve_fraud_insight(
  p_user_id    uuid,
  p_insight_id uuid,
  p_notes      text,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_insight public.fraud_insights;
  v_replayed boolean;
begin
  if coalesce(p_notes, '') !~ '\S' then
    perform internal.refuse('reason_required', 'notes: say what was found out');
  end if;
  select f.* into v_insight from public.fraud_insights as f where f.insight_id = p_insight_id for update;
  if v_insight.insight_id is null then
    perform internal.refuse('insight_not_found', format('insight_id: %s', p_insight_id));
  end if;
  if v_insight.user_id = p_user_id then
    perform internal.refuse('own_event', format('insight %s is about the caller', p_insight_id));
  end if;

  v_replayed := v_insight.resolved;
  if v_insight.resolved then
    if (v_insight.resolved_by, v_insight.resolution_notes) is distinct from (v_actor, p_notes) then
      perform internal.refuse('already_resolved', format('%s has resolved it', coalesce(v_insight.resolved_by, 'somebody')));
    end if;
  else
    update public.fraud_insights as f
       set resolved = true, resolved_at = internal.clock(), resolved_by = v_actor, resolution_notes = p_notes
     where f.insight_id = p_insight_id
    returning f.* into v_insight;
    perform internal.audit(
      v_actor, 'fraud_insight.resolved', 'fraud_insight', p_insight_id::text, p_notes, null,
      jsonb_build_object('insight_type', v_insight.insight_type, 'severity', v_insight.severity), p_request_id);
  end if;
  return jsonb_build_object(
    'insight_id', v_insight.insight_id, 'user_id', v_insight.user_id, 'resolved', true, 'resolved_at', v_insight.resolved_at,
    'resolved_by', v_insight.resolved_by, 'replayed', v_replayed);
end
$$;

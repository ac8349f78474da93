-- Says of an event what its device's evidence is worth, now that it could be checked: p_status 'verified', 'failed' with a
-- reason, or 'unsupported'. An event that was decided meanwhile stays as it was decided.
--
-- Replay:  what was checked again is not waiting for it any more: nothing changes.
-- Locks:   the waiting check, then the event.
-- Refuses: nothing.

create or replace function public.recheck_points_event(p_user_id uuid, p_event_id uuid, p_status text, p_reason text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_claim internal.attestation_claim;
begin
  delete from public.attestation_rechecks as r where r.user_id = p_user_id and r.event_id = p_event_id;
  if not found then
    return jsonb_build_object('rechecked', false);
  end if;
  update public.points_events as e
     set attestation = p_status, updated_at = internal.clock()
   where e.user_id = p_user_id and e.id = p_event_id and e.attestation = 'unavailable';
  if p_status = 'failed' then
    v_claim.user_id := p_user_id;
    v_claim.purpose := 'submit';
    v_claim.evidence := row('failed', p_reason, null, 'android', null, null, null, null, null)::internal.attestation_evidence;
    perform internal.fail_attestation(v_claim, p_reason, p_event_id);
  end if;
  return jsonb_build_object('rechecked', true);
end
$$;

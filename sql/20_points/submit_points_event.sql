-- Records what a client says happened: submit_points_event_batch with one request, raising its refusal.
--
-- Replay:  the same payload under the same nonce is answered as the first time, with "replayed", for ever.
-- Locks:   the user against other submissions of theirs, then the rows it writes.
-- Refuses: attestation_failed, returned as {"refusal": …} because it is written down; nonce_reused, unknown_event_type, event_type_not_submittable, proof_type_not_accepted, event_in_future,
--          event_too_old, rate_limited.

create or replace function public.submit_points_event(
  p_user_id             uuid,
  p_event_type          text,
  p_event_time          timestamptz,
  p_nonce               text,
  p_related_entity_type text default null,
  p_related_entity_id   uuid default null,
  p_proof_payload       jsonb default null,
  p_attestation         jsonb default null,
  p_device_id           text default null,
  p_device_info         jsonb default null,
  p_proof_type          text default null,
  p_ip_address          inet default null,
  p_request_id          text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_outcome internal.outcome;
begin
  select o.position, o.answer, o.refusal into v_outcome
    from internal.submit_points_event_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'event_type', p_event_type, 'event_time', p_event_time, 'nonce', p_nonce,
           'related_entity_type', p_related_entity_type, 'related_entity_id', p_related_entity_id,
           'proof_payload', p_proof_payload, 'attestation', p_attestation, 'device_id', p_device_id,
           'device_info', p_device_info, 'proof_type', p_proof_type, 'ip_address', p_ip_address,
           'request_id', p_request_id))) as o;
  if v_outcome.refusal ->> 'code' = 'attestation_failed' then
    return jsonb_build_object('refusal', v_outcome.refusal);
  end if;
  return internal.single(v_outcome);
end
$$;

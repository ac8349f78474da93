-- Keeps the key of a device that App Attest has vouched for. p_attestation is an internal.attestation_evidence; a verified
-- one also has public_key, app_id, environment, validation_category and receipt.
--
-- Replay:  the same user with the same challenge is answered as the first time, with "replayed".
-- Locks:   the challenge, then the key.
-- Refuses: attestation_failed, device_key_taken; both are returned as {"refusal": …}, because they are written down.

create or replace function public.register_device_key(p_user_id uuid, p_key_id text, p_attestation jsonb, p_request_id text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_evidence internal.attestation_evidence := jsonb_populate_record(null::internal.attestation_evidence, p_attestation);
  v_reason text := case when v_evidence.status is distinct from 'verified' then coalesce(v_evidence.reason, v_evidence.status, 'missing') end;
  v_key public.device_keys;
begin
  perform internal.act_for(array[p_user_id]);

  if v_reason is null then
    update public.attestation_challenges as a
       set request_hash = v_evidence.request_hash
     where a.user_id = p_user_id and a.challenge_hash = v_evidence.challenge_hash and a.purpose = 'register'
       and a.platform = 'ios' and a.request_hash is null and v_evidence.request_hash is not null and a.expires_at > v_now;
    if not found then
      -- Looked up only now: the same registration may have come twice at once, and waited for the other.
      select k.* into v_key
        from public.device_keys as k
       where k.key_id = p_key_id and k.user_id = p_user_id and k.challenge_hash = v_evidence.challenge_hash;
      if found then
        return jsonb_build_object(
          'key_id', v_key.key_id, 'environment', v_key.environment, 'registered_at', v_key.registered_at, 'replayed', true);
      end if;
      v_reason := 'challenge_not_valid';
    end if;
  end if;
  if v_reason is null then
    insert into public.device_keys as k (
           key_id, public_key, user_id, app_id, environment, validation_category, receipt, challenge_hash, registered_at, request_id)
    values (p_key_id, p_attestation ->> 'public_key', p_user_id, p_attestation ->> 'app_id', p_attestation ->> 'environment',
            (p_attestation ->> 'validation_category')::bigint, p_attestation ->> 'receipt', v_evidence.challenge_hash, v_now, p_request_id)
    on conflict (key_id) do nothing;
    v_reason := case when not found then 'key_taken' end;
  end if;

  if v_reason is not null then
    perform internal.fail_attestation(row(1, p_user_id, 'register', p_request_id, v_evidence)::internal.attestation_claim, v_reason);
    return jsonb_build_object('refusal', case v_reason
      when 'key_taken' then internal.refusal('device_key_taken', format('key_id: %s', p_key_id))
      else internal.refusal('attestation_failed', format('reason: %s', v_reason)) end);
  end if;
  insert into public.device_key_users (key_id, user_id, first_seen_at) values (p_key_id, p_user_id, v_now);
  return jsonb_build_object(
    'key_id', p_key_id, 'environment', p_attestation ->> 'environment', 'registered_at', v_now, 'replayed', false);
end
$$;

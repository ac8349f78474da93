-- SHA-256 over what makes two submissions the same: who, what, when, under which nonce, with which data. A retry may
-- come from another address and with a new attestation, so these do not count.
-- The text of a jsonb is canonical: keys in one order, white space in one form.

create or replace function internal.points_event_hash(
  p_user_id             uuid,
  p_event_type          text,
  p_event_time          timestamptz,
  p_nonce               text,
  p_related_entity_type text default null,
  p_related_entity_id   uuid default null,
  p_proof_payload       jsonb default null,
  p_device_id           text default null,
  p_device_info         jsonb default null,
  p_proof_type          text default null
)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return encode(sha256(convert_to(jsonb_build_array(
    p_user_id, p_event_type, (date_part('epoch', p_event_time) * 1000000)::bigint, p_nonce, p_related_entity_type,
    p_related_entity_id, p_proof_payload, p_device_id, p_device_info, p_proof_type)::text, 'UTF8')), 'hex');
end
$$;

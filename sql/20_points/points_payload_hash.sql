-- SHA-256 over what makes two submissions the same: who, what, when, under which nonce, with which data.
-- The text of a jsonb is canonical: keys in one order, white space in one form.

create or replace function internal.points_payload_hash(
  p_user_id    uuid,
  p_event_type text,
  p_event_time timestamptz,
  p_nonce      text,
  p_data       jsonb
)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return encode(sha256(convert_to(jsonb_build_object(
    'userId', p_user_id, 'eventType', p_event_type, 'eventTime', extract(epoch from p_event_time), 'nonce', p_nonce,
    'data', coalesce(p_data, 'null'))::text, 'UTF8')), 'hex');
end
$$;

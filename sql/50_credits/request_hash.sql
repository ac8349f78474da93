-- What tells one request from another that comes under the same key.

create or replace function internal.request_hash(p_request jsonb)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return encode(sha256(convert_to(p_request::text, 'UTF8')), 'hex');
end
$$;

-- A time-ordered UUID (RFC 9562, version 7), as PostgreSQL 18 has one and 15 to 17 do not.
-- 48 bits of milliseconds, 12 of the fraction of that millisecond, 62 random: ids made one after the other sort so.

create or replace function internal.uuidv7()
returns uuid
language plpgsql volatile
set search_path = ''
as $$
declare
  v_time bigint := date_part('epoch', clock_timestamp()) * 4096000;  -- in 4096ths of a millisecond
begin
  return encode(
    int8send((v_time >> 12 << 16) | x'7000'::bigint | (v_time & 4095)) || substring(uuid_send(gen_random_uuid()) from 9),
    'hex')::uuid;
end
$$;

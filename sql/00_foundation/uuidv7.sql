-- A time-ordered UUID (RFC 9562, version 7), as PostgreSQL 18 has one and 15 to 17 do not.
-- 48 bits of milliseconds, 12 of the fraction of that millisecond, 62 random: ids made one after the other sort so.

create or replace function internal.uuidv7()
returns uuid
language plpgsql volatile
set search_path = ''
as $$
declare
  v_microseconds bigint := date_part('epoch', clock_timestamp()) * 1000000;
begin
  return encode(
    substring(int8send(v_microseconds / 1000) from 3)
      || substring(int4send((7 << 12) | ((v_microseconds % 1000) * 4096 / 1000)::int) from 3)
      || substring(uuid_send(gen_random_uuid()) from 9),
    'hex')::uuid;
end
$$;

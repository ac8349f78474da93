-- The smallest id that internal.uuidv7 can have made at a moment: from here on, a range of ids is a range of time.
-- Ids go by the server's real clock, so p_at does as well; what else must hold of the rows is for the query to say.

create or replace function internal.uuidv7_floor(p_at timestamptz)
returns uuid
language plpgsql immutable
set search_path = ''
as $$
begin
  return encode(
    substring(int8send((date_part('epoch', p_at) * 1000)::bigint) from 3) || '\x70008000000000000000'::bytea, 'hex')::uuid;
end
$$;

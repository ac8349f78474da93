-- So many time-ordered UUIDs at once, each greater than the one before: internal.uuidv7 for a set. They count on from now and from
-- one random number, as RFC 9562 (6.2, method 2) has it for ids of one instant: they are unique, and they are no secrets.

create or replace function internal.uuidv7s(p_count int)
returns uuid[]
language plpgsql volatile
set search_path = ''
as $$
declare
  v_time bigint := date_part('epoch', clock_timestamp()) * 4096000;  -- in 4096ths of a millisecond
  -- 61 random bits behind the variant's two and one that leaves room to count.
  v_random bigint := (hashtextextended(gen_random_uuid()::text, 0) & x'1fffffffffffffff'::bigint) | x'8000000000000000'::bigint;
begin
  return array(
    select encode(int8send(((v_time + n) >> 12 << 16) | x'7000'::bigint | ((v_time + n) & 4095)) || int8send(v_random + n), 'hex')::uuid
      from generate_series(1, p_count) as n);
end
$$;

-- Lets this transaction's procedure see the coupon whose code somebody shows, by the code's hashes: one under each key.
-- Whoever shows no code any more says so with null.

create or replace function internal.show_codes(p_code_hashes text[])
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  perform set_config('tallybook.codes', coalesce(p_code_hashes::text, ''), true);
end
$$;

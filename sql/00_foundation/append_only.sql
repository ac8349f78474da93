-- Refuses to change or remove what a table only ever gains. Grants refuse it to everybody else; this refuses it to
-- the table's owner as well.

create or replace function internal.append_only()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = '42501',
    message = format('%I.%I is append-only', tg_table_schema, tg_table_name),
    hint    = 'Correct it with an opposite entry.';
end
$$;

-- The hashes of the code that somebody shows in this transaction, set by internal.show_codes, none before that.
-- Policies write it as (select internal.shown_codes())::text[], which is evaluated once a statement and not once a row.

create or replace function internal.shown_codes()
returns text[]
language plpgsql stable
set search_path = ''
as $$
begin
  return nullif(current_setting('tallybook.codes', true), '')::text[];
end
$$;

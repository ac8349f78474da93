-- Refuses a key that does not come encrypted: it would stand there for everybody to read who reads a backup.
-- Both null is nothing to store.

create or replace function internal.check_encrypted(p_encrypted text, p_key_id text)
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if (p_encrypted is null) <> (p_key_id is null) or length(p_encrypted) not between 100 and 4000
     or p_encrypted !~ '^gAAAA[A-Za-z0-9_=-]+$' or p_key_id !~ '^[0-9a-f]{12}$' then
    perform internal.refuse('invalid_body', 'The key does not come encrypted under a key with an id.');
  end if;
end
$$;

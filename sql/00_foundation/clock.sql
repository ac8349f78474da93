-- The time that decides. A test freezes it by replacing this function in its own database.
-- It is the transaction's time, so everything one call writes carries one instant.
-- This and the other small helpers are plpgsql: a SQL function with a pinned search path cannot be inlined and is, before
-- PostgreSQL 18, planned anew by every query that calls it, which is dearer than all it does.

create or replace function internal.clock()
returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  return now();
end
$$;

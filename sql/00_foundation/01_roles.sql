-- Our own roles and schemas. Runs once.
-- Roles belong to the server, not to the database: another database of the same server may have made them.

do $$
declare
  v_role text;
begin
  foreach v_role in array array[
    'tallybook_procedures',  -- owns the request procedures; sees the rows of the call's subjects, nothing else
    'tallybook_upkeep',      -- owns the batch and upkeep procedures
    'tallybook_functions',   -- what the functions log in as
    'tallybook_worker',      -- what the worker logs in as
    'tallybook_operator'     -- what the command line and the people with an SQL editor act as
  ] loop
    if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
      execute format('create role %I nologin', v_role);
    end if;
  end loop;

  -- Whoever migrates hands procedures to their owners, which takes membership, and is an operator.
  foreach v_role in array array['tallybook_procedures', 'tallybook_upkeep', 'tallybook_operator'] loop
    if not pg_catalog.pg_has_role(current_user, v_role, 'usage') then
      execute format('grant %I to current_user', v_role);
    end if;
  end loop;
end
$$;

create schema ledger;
create schema internal;

comment on schema ledger is 'The one book: accounts, transfers, holds. No API exposes it.';
comment on schema internal is 'Helpers and set-based cores of the procedures. No API exposes it.';

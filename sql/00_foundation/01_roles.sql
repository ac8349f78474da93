-- Our own roles and schemas. Runs once.
-- Roles belong to the server, not to the database: another database of the same server may have made them.

do $$
declare
  v_role text;
  v_setting text;
  v_value text;
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

  -- Nobody's transaction holds others up for long. What an administrator has set already stays.
  for v_role, v_setting, v_value in
    values ('tallybook_functions', 'statement_timeout', '5s'),
           ('tallybook_functions', 'lock_timeout', '3s'),
           ('tallybook_functions', 'idle_in_transaction_session_timeout', '10s'),
           ('tallybook_worker', 'statement_timeout', '60s'),
           ('tallybook_worker', 'lock_timeout', '5s'),
           ('tallybook_worker', 'idle_in_transaction_session_timeout', '60s')
  loop
    if not exists (
      select from pg_catalog.pg_roles as r, unnest(r.rolconfig) as c(setting)
       where r.rolname = v_role and c.setting like v_setting || '=%') then
      execute format('alter role %I set %I = %L', v_role, v_setting, v_value);
    end if;
  end loop;

  -- Whoever migrates hands procedures to their owners, which takes membership, and is an operator.
  -- From PostgreSQL 16 on only who made a role may grant it: a second migrator of a server needs that grant first.
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

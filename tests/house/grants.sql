-- What each role may do with each object of ours. Asked of the server and not read from the access lists, so that what
-- comes by PUBLIC or by membership counts too.

with who(role) as (
  select unnest(array['anon', 'authenticated', 'service_role', 'authenticator', 'tallybook_functions', 'tallybook_worker',
    'tallybook_operator', 'tallybook_procedures', 'tallybook_upkeep'])
), room as (
  select n.oid, n.nspname from pg_namespace as n where n.nspname in ('public', 'ledger', 'internal')
), allowed as (
  select 'schema ' || r.nspname as object, w.role, p.name, p.position
    from room as r, who as w, unnest(array['usage', 'create']) with ordinality as p(name, position)
   where has_schema_privilege(w.role, r.oid, p.name)
  union all
  select case when c.relkind = 'v' then 'view ' else 'table ' end || format('%I.%I', r.nspname, c.relname), w.role, p.name, p.position
    from room as r
    join pg_class as c on c.relnamespace = r.oid and c.relkind in ('r', 'p', 'v', 'm'), who as w,
         unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) with ordinality as p(name, position)
   where has_table_privilege(w.role, c.oid, p.name)
  union all
  select format('column %I.%I.%I', r.nspname, c.relname, a.attname), w.role, p.name, p.position
    from room as r
    join pg_class as c on c.relnamespace = r.oid and c.relkind in ('r', 'p', 'v', 'm')
    join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped, who as w,
         unnest(array['select', 'insert', 'update', 'references']) with ordinality as p(name, position)
   where has_column_privilege(w.role, c.oid, a.attnum, p.name) and not has_table_privilege(w.role, c.oid, p.name)
  union all
  select format('sequence %I.%I', r.nspname, c.relname), w.role, p.name, p.position
    from room as r
    join pg_class as c on c.relnamespace = r.oid and c.relkind = 'S', who as w,
         unnest(array['usage', 'select', 'update']) with ordinality as p(name, position)
   where has_sequence_privilege(w.role, c.oid, p.name)
  union all
  select format('routine %I.%I(%s)', r.nspname, f.proname, pg_get_function_identity_arguments(f.oid)), w.role,
         case when f.prosecdef then 'execute as ' || f.proowner::regrole else 'execute' end, 1
    from room as r
    join pg_proc as f on f.pronamespace = r.oid, who as w
   where f.prorettype <> 'trigger'::regtype and has_function_privilege(w.role, f.oid, 'execute')
)
select a.object, a.role, string_agg(a.name, ' ' order by a.position)
  from allowed as a
 group by a.object, a.role
 order by a.object collate "C", a.role collate "C";

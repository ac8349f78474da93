-- One row an object of our schemas: its kind, its name and everything about it, without object ids.
-- Privileges are listed without their grantor; pg_temp.rights comes from catalog_rights.sql.

with room as (
  select n.oid, n.nspname from pg_namespace as n where n.nspname = any (array['public', 'ledger', 'internal'])
), relation as (
  select c.*, format('%I.%I', r.nspname, c.relname) as full_name
    from pg_class as c join room as r on r.oid = c.relnamespace
), routine as (
  select p.*, p.oid::regprocedure::text as full_name from pg_proc as p join room as r on r.oid = p.pronamespace
)
select 'schema' as kind, n.nspname::text as name,
       format('owner %s; %s; %s', n.nspowner::regrole, pg_temp.rights(coalesce(n.nspacl, acldefault('n', n.nspowner))),
         obj_description(n.oid, 'pg_namespace')) as about
  from pg_namespace as n join room using (oid)
union all
select 'relation ' || c.relkind::text, c.full_name,
       format('owner %s; persistence %s; rls %s forced %s; options %s; %s; %s; partition %s', c.relowner::regrole, c.relpersistence,
         c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
         case when c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
              then pg_temp.rights(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) end,
         obj_description(c.oid, 'pg_class'), pg_get_expr(c.relpartbound, c.oid))
  from relation as c where c.relkind not in ('i', 'I', 't')
union all
select 'column', c.full_name || '.' || a.attname,
       format('position %s; %s; not null %s; default %s; identity %s; generated %s; collation %s; storage %s; %s; %s',
         rank() over (partition by c.oid order by a.attnum),
         format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
         nullif(a.attcollation, 0)::regcollation, a.attstorage, pg_temp.rights(a.attacl), col_description(c.oid, a.attnum))
  from relation as c
  join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relkind not in ('i', 'I', 't')
union all
select 'constraint', coalesce(c.conrelid::regclass::text, c.contypid::regtype::text) || ' ' || c.conname,
       format('%s; validated %s', pg_get_constraintdef(c.oid), c.convalidated)
  from pg_constraint as c join room as r on r.oid = c.connamespace
union all
select 'index', c.full_name, format('%s; valid %s', pg_get_indexdef(c.oid), i.indisvalid)
  from relation as c join pg_index as i on i.indexrelid = c.oid
union all
select 'trigger', c.full_name || ' ' || t.tgname, format('%s; enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
  from relation as c join pg_trigger as t on t.tgrelid = c.oid and not t.tgisinternal
union all
select 'policy', c.full_name || ' ' || p.polname,
       format('%s; for %s; to %s; using %s; with check %s', case when p.polpermissive then 'permissive' else 'restrictive' end, p.polcmd,
         (select string_agg(case when o = 0 then 'public' else o::regrole::text end, ', ' order by o::regrole::text collate "C")
            from unnest(p.polroles) as o),
         pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from relation as c join pg_policy as p on p.polrelid = c.oid
union all
select 'routine', p.full_name,
       format(E'owner %s; %s; %s\n%s', p.proowner::regrole, pg_temp.rights(coalesce(p.proacl, acldefault('f', p.proowner))),
         obj_description(p.oid, 'pg_proc'), pg_get_functiondef(p.oid))
  from routine as p where p.prokind in ('f', 'p')
union all
select 'view', c.full_name, pg_get_viewdef(c.oid) from relation as c where c.relkind in ('v', 'm')
union all
select 'type', format_type(t.oid, null),
       format('owner %s; %s; labels %s; base %s', t.typowner::regrole, pg_temp.rights(coalesce(t.typacl, acldefault('T', t.typowner))),
         (select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum as e where e.enumtypid = t.oid),
         nullif(t.typbasetype, 0)::regtype)
  from pg_type as t join room as r on r.oid = t.typnamespace where t.typelem = 0
union all
select 'default privileges', format('%s %s %s', d.defaclrole::regrole, nullif(d.defaclnamespace, 0)::regnamespace, d.defaclobjtype),
       pg_temp.rights(d.defaclacl)
  from pg_default_acl as d;

-- An access list as text, in the order of the roles' names.

create or replace function pg_temp.rights(aclitem[]) returns text language sql as $$
  select string_agg(format('%s: %s', who, what), ', ' order by who collate "C")
    from (select case when a.grantee = 0 then 'public' else a.grantee::regrole::text end as who,
                 string_agg(a.privilege_type || case when a.is_grantable then '*' else '' end, ' ' order by a.privilege_type) as what
            from aclexplode($1) as a group by 1) as x
$$;

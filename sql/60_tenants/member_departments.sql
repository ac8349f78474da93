-- The departments of active tenants in which whoever reads through PostgREST works.

create or replace function internal.member_departments()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_user_id uuid := internal.caller_id();
begin
  return array(
    select m.department_id
      from public.tenant_members as m
     cross join lateral (select from public.tenants as t where t.id = m.tenant_id and t.is_active limit 1) as t
     where m.user_id = v_user_id and m.is_active and m.department_id is not null);
end
$$;

-- The active tenants that whoever reads through PostgREST manages.

create or replace function internal.managed_tenants()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_user_id uuid := internal.caller_id();
begin
  return array(
    select m.tenant_id
      from public.tenant_members as m
     cross join lateral (select from public.tenants as t where t.id = m.tenant_id and t.is_active limit 1) as t
     where m.user_id = v_user_id and m.is_active and m.role in ('tenant_manager', 'hr_admin'));
end
$$;

-- The tenants that whoever reads through PostgREST manages.

create or replace function internal.managed_tenants()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
begin
  return array(
    select m.tenant_id from public.tenant_members as m
     where m.user_id = internal.caller_id() and m.is_active and m.role in ('tenant_manager', 'hr_admin'));
end
$$;

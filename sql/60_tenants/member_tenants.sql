-- The tenants to which whoever reads through PostgREST belongs. A user sees their own memberships and no others,
-- so this needs no rights of its own.

create or replace function internal.member_tenants()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
begin
  return array(
    select m.tenant_id from public.tenant_members as m
     where m.user_id = internal.caller_id() and m.is_active);
end
$$;

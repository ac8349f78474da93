-- The active tenants to which whoever reads through PostgREST belongs. A user sees their own memberships and no others,
-- and of tenants the active ones of these, so this needs no rights of its own.

create or replace function internal.member_tenants()
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
     where m.user_id = v_user_id and m.is_active);
end
$$;

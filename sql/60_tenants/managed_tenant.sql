-- Whose books a caller may look into: a manager's own tenant; for an administrator and a program the tenant that they name,
-- or null, which is every one.
--
-- Refuses: forbidden (no manager of this tenant), tenant_not_found, invalid_body (a manager of several named none).

create or replace function internal.managed_tenant(p_user_id uuid, p_tenant_id uuid default null)
returns uuid
language plpgsql volatile
set search_path = ''
as $$
declare
  v_member public.tenant_members;
begin
  if p_user_id is null or exists (select from public.system_admins as a where a.id = p_user_id and a.is_active) then
    if p_tenant_id is not null and not exists (select from public.tenants as t where t.id = p_tenant_id) then
      perform internal.refuse('tenant_not_found');
    end if;
    return p_tenant_id;
  end if;
  v_member := internal.membership(p_user_id, p_tenant_id);
  if v_member.role not in ('tenant_manager', 'hr_admin') then
    perform internal.refuse('forbidden', 'This is open to the managers of a tenant only.');
  end if;
  return v_member.tenant_id;
end
$$;

-- Who may set a tenant up: its managers, the platform's administrators, and programs, which bring no user. Says which
-- tenant is meant, as what they do it (administrator, tenant_manager, hr_admin), and how the audit log calls them. A
-- manager need not name the only tenant that they manage; everybody else must. A tenant that is not active has no managers:
-- it is the platform's alone.
--
-- Locks:   none.
-- Refuses: forbidden, invalid_body, tenant_not_found.

create or replace function internal.managing(
  p_user_id     uuid,
  p_tenant_id   uuid,
  p_actor       text default null,
  out tenant_id uuid,
  out role      text,
  out actor     text
)
returns record
language plpgsql stable
set search_path = ''
as $$
declare
  v_found public.tenant_members[];
begin
  if p_user_id is null or exists (select from public.system_admins as a where a.id = p_user_id and a.is_active) then
    role := 'administrator';
    actor := internal.actor(p_user_id, p_actor);
    if p_tenant_id is null then
      perform internal.refuse('invalid_body', 'tenant_id: must be named');
    end if;
    select t.id into tenant_id from public.tenants as t where t.id = p_tenant_id;
    if tenant_id is null then
      perform internal.refuse('tenant_not_found', 'Tenant not found');
    end if;
    return;
  end if;

  v_found := array(
    select m
      from public.tenant_members as m
     cross join lateral (select from public.tenants as t where t.id = m.tenant_id and t.is_active limit 1) as t
     where m.user_id = p_user_id and m.is_active and m.role in ('tenant_manager', 'hr_admin')
       and (p_tenant_id is null or m.tenant_id = p_tenant_id)
     limit 2);
  if cardinality(v_found) = 0 then
    perform internal.refuse('forbidden', 'This is open to a tenant''s managers only.');
  elsif cardinality(v_found) > 1 then
    perform internal.refuse('invalid_body', 'tenant_id: there are several, and one must be named');
  end if;
  tenant_id := v_found[1].tenant_id;
  role := v_found[1].role;
  actor := p_user_id::text;
end
$$;

-- A membership as the procedures show it.

create or replace function internal.member_json(p_member public.tenant_members)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'tenant_id', p_member.tenant_id, 'user_id', p_member.user_id, 'role', p_member.role, 'department_id', p_member.department_id,
    'display_name', p_member.display_name, 'is_active', p_member.is_active);
end
$$;

-- A department as the procedures show it.

create or replace function internal.department_json(p_department public.departments)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'tenant_id', p_department.tenant_id, 'department_id', p_department.id, 'name', p_department.name,
    'monthly_cap', internal.points_text(p_department.monthly_cap));
end
$$;

-- Adds a department to a tenant, or changes one: what is null stays as it is, and `no_cap` takes the monthly cap away. Its
-- tenant's managers', an administrator's or a program's. Returns the department.
--
-- Replay:  a change made twice is one; a second new one of the same name is refused.
-- Locks:   the department's row.
-- Refuses: forbidden, invalid_body, invalid_amount, tenant_not_found, department_not_found.

create or replace function public.set_department(
  p_user_id       uuid,
  p_department_id uuid default null,
  p_name          text default null,
  p_monthly_cap   numeric default null,
  p_no_cap        boolean default false,
  p_tenant_id     uuid default null,
  p_reason        text default null,
  p_actor         text default null,
  p_request_id    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_who record := internal.managing(p_user_id, p_tenant_id, p_actor);
  v_before public.departments;
  v_after public.departments;
begin
  if p_name !~ '\S' or p_department_id is null and p_name is null then
    perform internal.refuse('invalid_body', 'name: must be a name');
  elsif p_monthly_cap < 0 or p_monthly_cap > 9999999999999.99 or scale(trim_scale(p_monthly_cap)) > 2 then
    perform internal.refuse('invalid_amount', 'monthly_cap: must not be below zero, with at most two decimal places');
  elsif p_no_cap and p_monthly_cap is not null then
    perform internal.refuse('invalid_body', 'monthly_cap: either one or none');
  end if;

  begin
    if p_department_id is null then
      insert into public.departments as d (tenant_id, name, monthly_cap)
      values (v_who.tenant_id, p_name, p_monthly_cap)
      returning d.* into v_after;
    else
      select d.* into v_before
        from public.departments as d where d.tenant_id = v_who.tenant_id and d.id = p_department_id for update;
      if v_before.id is null then
        perform internal.refuse('department_not_found', format('department_id: %s', p_department_id));
      end if;
      update public.departments as d
         set name        = coalesce(p_name, d.name),
             monthly_cap = case when not coalesce(p_no_cap, false) then coalesce(p_monthly_cap, d.monthly_cap) end
       where d.tenant_id = v_who.tenant_id and d.id = p_department_id
      returning d.* into v_after;
    end if;
  exception when unique_violation then
    perform internal.refuse('invalid_body', 'name: there is another department of this name');
  end;

  perform internal.audit(
    v_who.actor, 'department.set', 'department', v_after.id::text, p_reason,
    case when v_before.id is not null then internal.department_json(v_before) end, internal.department_json(v_after), p_request_id);
  return internal.department_json(v_after);
end
$$;

-- Takes somebody into a tenant, by user id or e-mail address, or changes what they are there: what is null stays as it is.
-- Its tenant's managers', an administrator's or a program's; nobody changes what they are themselves, and only a
-- tenant_manager or an administrator makes tenant_managers, or changes one. What makes an administrator of the platform
-- is elsewhere. Returns the membership.
--
-- Replay:  a change made twice is one.
-- Locks:   the member's row.
-- Refuses: forbidden, invalid_body, tenant_not_found, user_not_found, own_event, department_not_found.

create or replace function public.set_member(
  p_user_id       uuid,
  p_account       text,
  p_role          text default null,
  p_department_id uuid default null,
  p_no_department boolean default false,
  p_display_name  text default null,
  p_is_active     boolean default null,
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
  v_user_id uuid := internal.user_of_account(p_account);
  v_before public.tenant_members;
  v_after public.tenant_members;
begin
  if p_role not in ('tenant_manager', 'hr_admin', 'tenant_lead', 'dept_lead', 'manager', 'employee') then
    perform internal.refuse('invalid_body', 'role: must be a role of members');
  elsif p_no_department and p_department_id is not null then
    perform internal.refuse('invalid_body', 'department_id: either one or none');
  elsif v_user_id = p_user_id then
    perform internal.refuse('own_event', 'account: nobody changes what they are themselves');
  elsif p_department_id is not null
        and not exists (select from public.departments as d where d.tenant_id = v_who.tenant_id and d.id = p_department_id) then
    perform internal.refuse('department_not_found', format('department_id: %s', p_department_id));
  end if;

  -- Made first and locked, so that of two at once the second sees what the first made of it.
  insert into public.tenant_members as m (tenant_id, user_id)
  values (v_who.tenant_id, v_user_id)
  on conflict (tenant_id, user_id) do nothing;
  if not found then
    select m.* into v_before
      from public.tenant_members as m where m.tenant_id = v_who.tenant_id and m.user_id = v_user_id for update;
  end if;
  if v_who.role = 'hr_admin' and 'tenant_manager' in (p_role, v_before.role) then
    perform internal.refuse('forbidden', 'Only a tenant_manager or an administrator makes tenant_managers, or changes one.');
  end if;
  update public.tenant_members as m
     set role          = coalesce(p_role, m.role),
         department_id = case when not coalesce(p_no_department, false) then coalesce(p_department_id, m.department_id) end,
         display_name  = coalesce(p_display_name, m.display_name),
         is_active     = coalesce(p_is_active, m.is_active),
         updated_at    = internal.clock()
   where m.tenant_id = v_who.tenant_id and m.user_id = v_user_id
  returning m.* into v_after;

  perform internal.audit(
    v_who.actor, 'member.set', 'user', v_user_id::text, p_reason,
    case when v_before.user_id is not null then internal.member_json(v_before) end, internal.member_json(v_after), p_request_id);
  return internal.member_json(v_after);
end
$$;

-- A page of the people of a tenant, whom one may recognize: {members, next_cursor}. Everybody there sees who is active; those
-- who manage it, administrators and programs see who left as well, what leads can award and what is in the wallets. A search
-- finds part of a name. A cursor leads on from where a page ended, and is null at the end.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body, forbidden, tenant_not_found.

create or replace function public.list_members(
  p_user_id   uuid,
  p_tenant_id uuid default null,
  p_search    text default null,
  p_limit     int default 100,
  p_cursor    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_tenant_id uuid := p_tenant_id;
  v_limit int := coalesce(p_limit, 100);
  v_after uuid := uuid '00000000-0000-0000-0000-000000000000';
  v_member public.tenant_members;
  v_manages boolean;
  v_page public.tenant_members[];
begin
  if v_limit not between 1 and 500 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 500');
  elsif p_cursor is not null then
    if p_cursor !~ '^[A-Za-z0-9_-]{22}$' then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave');
    end if;
    v_after := encode(decode(translate(p_cursor, '-_', '+/') || '==', 'base64'), 'hex')::uuid;
  end if;

  if p_user_id is null or p_tenant_id is not null and exists (
       select from public.system_admins as s where s.id = p_user_id and s.is_active) then
    if p_tenant_id is null then
      perform internal.refuse('invalid_body', 'tenant_id: must be named');
    end if;
    perform internal.act_for(array[p_tenant_id]);
    perform from public.tenants as t where t.id = p_tenant_id;
    if not found then
      perform internal.refuse('tenant_not_found');
    end if;
    v_manages := true;
  else
    v_member := internal.membership(p_user_id, p_tenant_id);
    v_tenant_id := v_member.tenant_id;
    v_manages := v_member.role in ('tenant_manager', 'hr_admin');
  end if;

  v_page := array(
    select m
      from public.tenant_members as m
     where m.tenant_id = v_tenant_id and m.user_id > v_after and (v_manages or m.is_active)
       and (p_search is null or position(lower(p_search) in lower(m.display_name)) > 0)
     order by m.user_id
     limit v_limit + 1);

  return jsonb_build_object(
    'members', coalesce((
      select jsonb_agg(
               internal.member_json(row(
                 m.tenant_id, m.user_id, m.role, m.department_id, m.display_name, m.lead_distribution_balance, m.is_active, m.created_at,
                 m.updated_at)::public.tenant_members)
               || case when v_manages then jsonb_build_object(
                    'lead_distribution_balance', internal.points_text(m.lead_distribution_balance),
                    'wallet_balance', internal.points_text(coalesce(w.balance, 0))) else '{}'::jsonb end
               order by m.place)
        from unnest(v_page[:v_limit]) with ordinality as m(
               tenant_id, user_id, role, department_id, display_name, lead_distribution_balance, is_active, created_at, updated_at, place)
        left join lateral (
             select x.balance from public.wallets as x where x.tenant_id = m.tenant_id and x.user_id = m.user_id limit 1) as w on true), '[]'),
    'next_cursor', case when cardinality(v_page) > v_limit then
      translate(rtrim(encode(uuid_send(v_page[v_limit].user_id), 'base64'), '='), '+/', '-_') end);
end
$$;

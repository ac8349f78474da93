-- A page of what a member may see of the tenant's recognitions, the newest first: {recognitions, next_cursor}. That is what is
-- public, what is shown to their department, and what they gave or got themselves; a manager sees all of it. A cursor leads on
-- from where a page ended, whatever came meanwhile, and is null at the end.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body, forbidden.

create or replace function public.list_recognitions(
  p_user_id   uuid,
  p_tenant_id uuid default null,
  p_scope     text default 'all',
  p_limit     int default 25,
  p_cursor    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_member public.tenant_members;
  v_manages boolean;
  v_limit int := coalesce(p_limit, 25);
  -- In a variable, because a condition that calls a function is no index condition under row-level security.
  v_before uuid := uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_page public.recognitions[];
begin
  v_member := internal.membership(p_user_id, p_tenant_id);
  v_manages := v_member.role in ('tenant_manager', 'hr_admin');
  if p_scope not in ('all', 'given', 'received') then
    perform internal.refuse('invalid_body', 'scope: must be all, given or received');
  elsif v_limit not between 1 and 100 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 100');
  end if;
  if p_cursor is not null then
    if p_cursor !~ '^[A-Za-z0-9_-]{22}$' then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave');
    end if;
    v_before := encode(decode(translate(p_cursor, '-_', '+/') || '==', 'base64'), 'hex')::uuid;
  end if;

  -- Each way in goes along an index that brings the order with it: ids sort by time. An id is named as a range and in
  -- the order, where only its own index may lead to it.
  if p_scope = 'given' then
    v_page := array(
      select r from public.recognitions as r
       where r.tenant_id = v_member.tenant_id and r.from_user_id = p_user_id and r.id < v_before
       order by r.from_user_id desc, r.id desc
       limit v_limit + 1);
  elsif p_scope = 'received' then
    v_page := array(
      select r
        from (select x.recognition_id from public.recognition_recipients as x
               where x.tenant_id = v_member.tenant_id and x.user_id = p_user_id and x.recognition_id < v_before
               order by x.recognition_id desc
               limit v_limit + 1) as x
       cross join lateral (
             select y.* from public.recognitions as y
              where y.tenant_id = v_member.tenant_id and y.id >= x.recognition_id and y.id <= x.recognition_id
              order by y.id limit 1) as r
       order by x.recognition_id desc);
  else
    v_page := array(
      select r from public.recognitions as r
       where r.tenant_id = v_member.tenant_id and r.id < v_before
         and (v_manages or r.from_user_id = p_user_id
              or r.status = 'active' and (r.visibility = 'public' or r.visibility = 'department' and r.department_id = v_member.department_id)
              or r.to_user_id = p_user_id
              or exists (select from public.recognition_groups as x
                          where x.tenant_id = r.tenant_id and x.recognition_id = r.id and x.user_id = p_user_id))
       order by r.id desc
       limit v_limit + 1);
  end if;

  return jsonb_build_object(
    'recognitions', coalesce((
      select jsonb_agg(jsonb_build_object(
               'recognition_id', r.id, 'from_user_id', r.from_user_id, 'recognition_type', r.recognition_type, 'award_tier', r.award_tier,
               'message', r.message, 'points', internal.points_text(r.points), 'visibility', r.visibility, 'status', r.status,
               'created_at', r.created_at, 'recipients', g.recipients) order by r.place)
        from unnest(v_page[:v_limit]) with ordinality as r(
               tenant_id, id, from_user_id, to_user_id, recognition_type, award_tier, message, points, funded_by, visibility, status,
               department_id, pool_after, revoked_at, revoked_by, revoked_reason, idempotency_key, request_hash, request_id, created_at, updated_at, place)
       cross join lateral (
             select jsonb_agg(jsonb_build_object('user_id', x.user_id, 'points', internal.points_text(x.points)) order by x.place) as recipients
               from (select y.* from public.recognition_recipients as y
                      where y.tenant_id = r.tenant_id and y.recognition_id >= r.id and y.recognition_id <= r.id
                      order by y.recognition_id limit 200) as x) as g), '[]'),
    'next_cursor', case when cardinality(v_page) > v_limit then translate(rtrim(encode(
      uuid_send(v_page[v_limit].id), 'base64'), '='), '+/', '-_') end);
end
$$;

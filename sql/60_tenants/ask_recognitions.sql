-- Reads requests to recognize somebody: who gives in which tenant, to whom, how much each, and which accounts may pay for it.
-- From now on the procedure acts for those tenants. Nothing is locked yet: what a lock decides, as what the accounts hold and
-- whether the key is known, is for internal.fund_recognitions.
--
-- A program, or an administrator who is no member, gives in the system's name, and names the tenant.
--
-- Refuses: forbidden, invalid_body, tenant_not_found, invalid_amount, self_recognition, recipient_not_found, peer_to_peer_off;
--          each as the verdict on one request.

create or replace function internal.ask_recognitions(p_requests internal.recognition_request[])
returns internal.recognition_ask[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  c_points_max constant numeric := 9999999999999.99;
  v_users uuid[] := array(select r.user_id from unnest(p_requests) as r where r.user_id is not null);
  v_administrators uuid[] := array(
    select s.id from public.system_admins as s
     where s.is_active and s.id = any (array(select r.user_id from unnest(p_requests) as r where r.award)));
  v_members public.tenant_members[] := array[]::public.tenant_members[];  -- who of them is a member, in whatever tenant
  v_who uuid[] := array[]::uuid[];  -- and who that is, in the same places
  v_tenants public.tenants[];  -- the active ones of theirs, and of those that are named
  v_tenant_ids uuid[];
  v_departments text[] := array[]::text[];  -- tenant/department, where it has a cap
  v_caps numeric[];
  v_request internal.recognition_request;
  v_member public.tenant_members;
  v_giver public.tenant_members;  -- null: the system
  v_tenant public.tenants;
  v_ask internal.recognition_ask;
  v_asks internal.recognition_ask[];
  v_at int;
  v_heads int;
  v_names_twice boolean;
  v_tenants_of int;
  v_split text;
  v_tier_points numeric;
  v_points numeric;  -- each one's, or what all share
begin
  if cardinality(p_requests) > cardinality(v_users) + 1 then
    raise exception 'a batch holds at most one request per book';
  end if;
  if cardinality(v_users) > 0 then
    perform internal.act_for(v_users);
    select coalesce(array_agg(m), '{}'), coalesce(array_agg(m.user_id), '{}')
      into v_members, v_who
      from public.tenant_members as m
     where m.user_id = any (v_users) and m.is_active;
  end if;
  v_tenant_ids := array(
    select m.tenant_id from unnest(v_members) as m
     union
    select r.tenant_id
      from unnest(p_requests) as r
     where r.tenant_id is not null and (r.user_id is null or r.user_id = any (v_administrators)));
  if cardinality(v_tenant_ids) > 0 then
    perform internal.act_for(v_tenant_ids);
  end if;
  select coalesce(array_agg(t), '{}'), coalesce(array_agg(t.id), '{}')
    into v_tenants, v_tenant_ids
    from public.tenants as t
   where t.id = any (v_tenant_ids) and t.is_active;
  if exists (select from unnest(v_members) as m where m.department_id is not null) then
    select coalesce(array_agg(d.tenant_id || '/' || d.id), '{}'), array_agg(d.monthly_cap)
      into v_departments, v_caps
      from (select distinct m.tenant_id, m.department_id from unnest(v_members) as m) as m
     cross join lateral (
           select x.* from public.departments as x where x.tenant_id = m.tenant_id and x.id = m.department_id limit 1) as d
     where d.monthly_cap is not null;
  end if;

  for v_place in 1 .. cardinality(p_requests) loop
    v_request := p_requests[v_place];
    v_giver := null;
    v_tenants_of := 0;
    foreach v_at in array coalesce(array_positions(v_who, v_request.user_id), '{}') loop
      v_member := v_members[v_at];
      -- An administrator who works there awards as administrator.
      if v_member.tenant_id = any (v_tenant_ids) and coalesce(v_member.tenant_id = v_request.tenant_id, true)
         and not (v_member.role = 'employee' and v_request.tenant_id is not null and v_request.user_id = any (v_administrators)) then
        v_tenants_of := v_tenants_of + 1;
        v_giver := v_member;
      end if;
    end loop;

    v_heads := coalesce(cardinality(v_request.recipients), 0);
    -- Asked where there are several only: a condition that reads rows costs as much as all others together.
    v_names_twice := false;
    if v_heads > 1 then
      v_names_twice := v_heads > (select count(distinct u.user_id) from unnest(v_request.recipients) as u(user_id));
    end if;
    v_split := coalesce(v_request.split, 'flat');
    v_ask := row(
      v_place, null, coalesce(v_giver.tenant_id, v_request.tenant_id), v_request.user_id, v_giver.user_id, v_giver.department_id, null,
      v_request.recipients, null, null, null, null, v_request.message, coalesce(v_request.recognition_type, 'standard'),
      v_request.award_tier, coalesce(v_request.visibility, 'public'), null, null, null, v_request.idempotency_key, null,
      v_request.request_id, null, null)::internal.recognition_ask;
    if v_ask.tenant_id is distinct from v_tenant.id then
      v_tenant := v_tenants[array_position(v_tenant_ids, v_ask.tenant_id)];
    end if;
    v_tier_points := null;
    if v_request.award_tier is not null and jsonb_typeof(v_tenant.award_tiers -> v_request.award_tier) = 'number' then
      v_tier_points := (v_tenant.award_tiers ->> v_request.award_tier)::numeric;
    end if;
    v_points := coalesce(v_request.points, v_tier_points, 0);
    if v_request.idempotency_key is not null then
      v_ask.request_hash := encode(sha256(convert_to(row(
        v_request.recipients, trim_scale(v_request.points), v_request.message, v_ask.recognition_type, v_request.award_tier, v_split,
        v_ask.visibility, coalesce(v_request.award, false))::text, 'UTF8')), 'hex');
    end if;

    if v_tenants_of = 0 and v_request.user_id is not null and v_request.user_id <> all (v_administrators) then
      v_ask.verdict := 'forbidden';
      v_ask.detail := 'This is open to the members of a tenant only.';
      v_ask.tenant_id := null;
    elsif v_tenants_of > 1 or v_tenants_of = 0 and v_request.tenant_id is null then
      -- Who is in several tenants must name one, unless only one of them is active.
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'tenant_id: must be named';
      v_ask.tenant_id := null;
    elsif v_tenant.id is null then
      v_ask.verdict := 'tenant_not_found';
    elsif v_request.message is null or v_request.message !~ '\S' or length(v_request.message) > 2000 then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'message: must say something, in at most 2000 characters';
    elsif length(v_request.idempotency_key) > 200 then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'idempotency_key: must have at most 200 characters';
    elsif v_ask.recognition_type not in ('standard', 'individual_award', 'group_award', 'ecard') then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'recognition_type: must be standard, individual_award, group_award or ecard';
    elsif v_ask.visibility not in ('public', 'private', 'department') then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'visibility: must be public, private or department';
    elsif v_split not in ('flat', 'equal') then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'split: must be flat or equal';
    elsif v_request.award_tier is not null and v_tier_points is null then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'award_tier: there is no such tier';
    elsif v_heads not between 1 and 200 or array_position(v_request.recipients, null) is not null or v_names_twice then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'recipients: must be 1 to 200, each named once';
    elsif v_request.points <> v_tier_points then
      v_ask.verdict := 'invalid_amount';
      v_ask.detail := 'points: the award tier says how many';
    elsif v_split = 'equal' and v_points > 0 and v_points < v_heads / 100.0 then
      v_ask.verdict := 'invalid_amount';
      v_ask.detail := 'points: there is not a hundredth for each';
    elsif not (v_points between 0 and c_points_max) or scale(trim_scale(v_points)) > 2 or v_request.award and v_points = 0
          or v_split = 'flat' and v_points * v_heads > c_points_max then
      v_ask.verdict := 'invalid_amount';
      v_ask.detail := 'points: must be at most 9999999999999.99 in all, not below 0, with at most two decimal places';
    elsif v_request.award and v_giver.role = 'employee' then
      v_ask.verdict := 'forbidden';
      v_ask.detail := 'This is open to managers and leads only.';
    elsif v_request.user_id = any (v_request.recipients) then
      v_ask.verdict := 'self_recognition';
    else
      if v_giver.role = 'employee' and v_points > 0 and not v_tenant.peer_to_peer_enabled then
        v_ask.verdict := 'peer_to_peer_off';
      end if;
      if v_split = 'flat' then
        v_ask.shares := array_fill(v_points, array[v_heads]);
        v_ask.points := v_points * v_heads;
      else
        -- What does not divide goes to the first of them, a hundredth each.
        v_ask.shares := array(
          select (trunc(v_points * 100 / v_heads) + case when g.place <= v_points * 100 % v_heads then 1 else 0 end) / 100
            from generate_series(1, v_heads) as g(place)
           order by g.place);
        v_ask.points := v_points;
      end if;
      if v_giver.user_id is null then
        v_ask.sources := array['tenant.pool'];
      elsif v_giver.role = 'employee' then
        v_ask.sources := array['tenant.wallet:' || v_giver.user_id];
      else
        v_ask.sources := case when v_giver.lead_distribution_balance > 0 then array['tenant.lead:' || v_giver.user_id] else '{}' end
          || array['tenant.pool']
          || case when v_tenant.allocation_mode <> 'legacy_fallback' then '{}'
                  when v_giver.department_id is null then array['tenant.wallet:' || v_giver.user_id]
                  else array['tenant.budget:' || v_giver.department_id, 'tenant.wallet:' || v_giver.user_id] end;
      end if;
      v_ask.monthly_cap := v_caps[array_position(v_departments, v_ask.tenant_id || '/' || v_ask.department_id)];
    end if;
    v_asks[v_place] := v_ask;
  end loop;

  -- All are looked up at once, and last, since nearly nobody names a stranger.
  for v_at in
    select distinct a.position
      from unnest(v_asks) as a
     cross join unnest(a.recipients) as r(user_id)
      left join lateral (
           select x.user_id from public.tenant_members as x
            where x.tenant_id = a.tenant_id and x.user_id = r.user_id and x.is_active limit 1) as m on true
     where (a.verdict is null or a.verdict = 'peer_to_peer_off') and m.user_id is null
  loop
    v_asks[v_at].verdict := 'recipient_not_found';
  end loop;
  return v_asks;
end
$$;

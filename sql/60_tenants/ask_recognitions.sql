-- Reads requests to recognize somebody: who gives in which tenant, to whom, how much each, and which accounts may pay for it.
-- From now on the procedure acts for the givers and their tenants. Nothing is locked yet: what a lock decides, as what the
-- accounts hold and whether the key is known, is for internal.fund_recognitions.
--
-- A program, or an administrator who is no member, gives in the system's name, and names the tenant.
--
-- Refuses: invalid_body, invalid_amount, forbidden, tenant_not_found, self_recognition, recipient_not_found, peer_to_peer_off;
--          each as the verdict on one request.

create or replace function internal.ask_recognitions(p_requests jsonb)
returns internal.recognition_ask[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r where r ->> 'user_id' is not null);
  v_places text[];    -- each request's tenant, or why there is none
begin
  if jsonb_array_length(p_requests) > cardinality(v_users) + 1 then
    raise exception 'a batch holds at most one request per book';
  end if;
  if cardinality(v_users) > 0 then
    perform internal.act_for(v_users);
  end if;
  v_places := array(
    select case
             when cardinality(m.tenant_ids) = 1 then m.tenant_ids[1]::text
             when cardinality(m.tenant_ids) > 1 then 'invalid_body'
             when r.user_id is not null and not coalesce(r.award and exists (
                    select from public.system_admins as s where s.id = r.user_id and s.is_active), false) then 'forbidden'
             else coalesce(r.tenant_id::text, 'invalid_body')
           end
      from jsonb_populate_recordset(null::internal.recognition_request, p_requests) with ordinality as r
     cross join lateral (
           select array(select x.tenant_id from public.tenant_members as x
                         where x.user_id = r.user_id and x.is_active and (r.tenant_id is null or x.tenant_id = r.tenant_id)
                         limit 2) as tenant_ids) as m
     order by r.ordinality);
  if exists (select from unnest(v_places) as p(place) where length(p.place) = 36) then
    perform internal.act_for(array(
      select u.id from unnest(v_users) as u(id)
       union
      select p.place::uuid from unnest(v_places) as p(place) where length(p.place) = 36));
  end if;

  return array(
    with request as materialized (
      select r.ordinality as position, r.user_id, r.recipients, r.message, r.award_tier, r.idempotency_key, r.request_id,
             coalesce(r.award, false) as award,
             coalesce(r.recognition_type, 'standard') as recognition_type, coalesce(r.split, 'flat') as split,
             coalesce(r.visibility, 'public') as visibility, coalesce(cardinality(r.recipients), 0) as heads,
             case when length(p.place) = 36 then p.place::uuid end as tenant_id,
             case when length(p.place) < 36 then p.place end as refused,
             r.points as said, internal.request_hash(jsonb_strip_nulls(to_jsonb(r) - '{user_id,tenant_id,ordinality,request_id,idempotency_key}'::text[]
               || jsonb_build_object('points', trim_scale(r.points)))) as request_hash
        from jsonb_populate_recordset(null::internal.recognition_request, p_requests) with ordinality as r
        join unnest(v_places) with ordinality as p(place, ordinality) on p.ordinality = r.ordinality
    ), known as materialized (
      select r.*, t.id is not null and t.is_active as open, t.allocation_mode, t.peer_to_peer_enabled, m.role, m.department_id, d.monthly_cap,
             m.user_id as from_user_id, tier.points as tier_points, coalesce(r.said, tier.points, 0) as each_points
        from request as r
        left join lateral (select x.* from public.tenants as x where x.id = r.tenant_id limit 1) as t on true
        left join lateral (
             select x.* from public.tenant_members as x
              where x.tenant_id = r.tenant_id and x.user_id = r.user_id and x.is_active limit 1) as m on true
        left join lateral (
             select x.monthly_cap from public.departments as x
              where x.tenant_id = r.tenant_id and x.id = m.department_id limit 1) as d on true
        left join lateral (
             select (t.award_tiers ->> r.award_tier)::numeric as points
              where jsonb_typeof(t.award_tiers -> r.award_tier) = 'number') as tier on true
    ), judged as materialized (
      select k.*,
             case
               when k.refused is not null then k.refused
               when not k.open then 'tenant_not_found'
               when k.message is null or k.message !~ '\S' or length(k.message) > 2000 or length(k.idempotency_key) > 200
                    or k.recognition_type not in ('standard', 'individual_award', 'group_award', 'ecard')
                    or k.visibility not in ('public', 'private', 'department') or k.split not in ('flat', 'equal')
                    or k.heads not between 1 and 200 or array_position(k.recipients, null) is not null
                    or k.heads > 1 and k.heads > (select count(distinct x.user_id) from unnest(k.recipients) as x(user_id))
                    or k.award_tier is not null and k.tier_points is null then 'invalid_body'
               when not (k.each_points between 0 and 9999999999999.99) or scale(trim_scale(k.each_points)) > 2
                    or k.said <> k.tier_points or k.award and k.each_points = 0
                    or k.split = 'flat' and k.each_points * k.heads > 9999999999999.99
                    or k.split = 'equal' and k.each_points > 0 and k.each_points * 100 < k.heads then 'invalid_amount'
               when k.award and k.role = 'employee' then 'forbidden'
               when k.user_id = any (k.recipients) then 'self_recognition'
               when k.heads > (
                    select count(*) from unnest(k.recipients) as x(user_id)
                     cross join lateral (
                           select from public.tenant_members as y
                            where y.tenant_id = k.tenant_id and y.user_id = x.user_id and y.is_active limit 1) as z)
                    then 'recipient_not_found'
               when k.role = 'employee' and k.each_points > 0 and not k.peer_to_peer_enabled then 'peer_to_peer_off'
             end as verdict
        from known as k
    ), shared as (
      select j.*, s.shares, case j.split when 'equal' then j.each_points else j.each_points * j.heads end as points
        from judged as j
        left join lateral (
             -- What does not divide goes to the first of them, a hundredth each.
             select case when j.split = 'flat' then array_fill(j.each_points, array[j.heads]) else array(
                      select (trunc(j.each_points * 100 / j.heads) + case when g.place <= j.each_points * 100 % j.heads then 1 else 0 end) / 100
                        from generate_series(1, j.heads) as g(place)
                       order by g.place) end as shares
              where j.verdict is null) as s on true
    )
    select row(
             s.position, null, s.tenant_id, s.user_id, s.from_user_id, s.department_id, s.monthly_cap, s.recipients, s.shares,
             -- Made in order of arrival, in which a wallet's statement shows them.
             case when s.verdict is null then array(select internal.uuidv7() from generate_series(1, s.heads)) end, s.points, s.message, s.recognition_type, s.award_tier, s.visibility,
             case when s.from_user_id is null then array['tenant.pool']
                  when s.role = 'employee' then array['tenant.wallet:' || s.user_id]
                  else case when s.role in ('tenant_manager', 'hr_admin') then '{}' else array['tenant.lead:' || s.user_id] end
                       || array['tenant.pool']
                       || case when s.allocation_mode = 'legacy_fallback' and s.department_id is not null
                               then array['tenant.budget:' || s.department_id] else '{}' end
                       || case when s.allocation_mode = 'legacy_fallback' then array['tenant.wallet:' || s.user_id] else '{}' end end,
             null, null, s.idempotency_key, s.request_hash, s.request_id, s.verdict,
             case s.verdict
               when 'forbidden' then case when s.role is null then 'This is open to the members of a tenant only.'
                                          else 'This is open to managers and leads only.' end
               when 'invalid_amount' then case
                 when s.said <> s.tier_points then 'points: the award tier says how many'
                 when s.split = 'equal' and s.each_points > 0 and s.each_points * 100 < s.heads then 'points: there is not a hundredth for each'
                 else 'points: must be at most 9999999999999.99 in all, not below 0, with at most two decimal places' end
               when 'invalid_body' then case
                 when s.refused is not null then 'tenant_id: must be named'
                 when s.message is null or s.message !~ '\S' or length(s.message) > 2000 then 'message: must say something, in at most 2000 characters'
                 when length(s.idempotency_key) > 200 then 'idempotency_key: must have at most 200 characters'
                 when s.recognition_type not in ('standard', 'individual_award', 'group_award', 'ecard')
                   then 'recognition_type: must be standard, individual_award, group_award or ecard'
                 when s.visibility not in ('public', 'private', 'department') then 'visibility: must be public, private or department'
                 when s.split not in ('flat', 'equal') then 'split: must be flat or equal'
                 when s.award_tier is not null and s.tier_points is null then 'award_tier: there is no such tier'
                 else 'recipients: must be 1 to 200, each named once' end
             end)::internal.recognition_ask
      from shared as s
     order by s.position);
end
$$;

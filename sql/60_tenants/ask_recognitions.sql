-- Reads requests to recognize somebody: who gives in which tenant, to whom, how much each, and which accounts may pay for it.
-- From now on the procedure acts for those tenants. Nothing is locked yet: what a lock decides, as what the accounts hold and
-- whether the key is known, is for internal.fund_recognitions.
--
-- A program, or an administrator who is no member, gives in the system's name, and names the tenant.
--
-- Refuses: invalid_body, invalid_amount, forbidden, tenant_not_found, self_recognition, recipient_not_found, peer_to_peer_off;
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
  v_users uuid[] := array(select r.user_id from unnest(p_requests) as r where r.user_id is not null);
  v_administrators uuid[] := array(
    select s.id from public.system_admins as s
     where s.is_active and s.id = any (array(select r.user_id from unnest(p_requests) as r where r.award)));
  v_members public.tenant_members[];  -- of the givers, where they are active
  v_tenants uuid[];
begin
  if cardinality(p_requests) > cardinality(v_users) + 1 then
    raise exception 'a batch holds at most one request per book';
  end if;
  if cardinality(v_users) > 0 then
    perform internal.act_for(v_users);
    v_members := array(
      select m
        from unnest(p_requests) as r
       cross join lateral (
             select x from public.tenant_members as x
              where x.user_id = r.user_id and x.is_active and (r.tenant_id is null or x.tenant_id = r.tenant_id)
                -- An administrator who works there awards as administrator.
                and not (x.role = 'employee' and r.tenant_id is not null and r.user_id = any (v_administrators))) as x(m));
  end if;
  v_tenants := array(
    select m.tenant_id from unnest(v_members) as m
     union
    select r.tenant_id
      from unnest(p_requests) as r
     where r.tenant_id is not null and (r.user_id is null or r.user_id = any (v_administrators)));
  if cardinality(v_tenants) > 0 then
    perform internal.act_for(v_tenants);
  end if;

  return array(
    with tenant as materialized (
      select x.*
        from unnest(v_tenants) as t(id)
       cross join lateral (select y.* from public.tenants as y where y.id = t.id limit 1) as x
    ), giver as materialized (
      -- Who is in several tenants must name one, unless only one of them is active.
      select m.user_id, count(*) as tenants, (array_agg(m))[1] as member
        from unnest(v_members) as m
        join tenant as t on t.id = m.tenant_id and t.is_active
       group by m.user_id
    ), placed as materialized (
      select r.*, (g.member).user_id as from_user_id, (g.member).role, (g.member).department_id,
             (g.member).lead_distribution_balance > 0 as has_budget, n.refused,
             case when n.refused is null then coalesce((g.member).tenant_id, r.tenant_id) end as place_id
        from unnest(p_requests) with ordinality as r
        left join giver as g on g.user_id = r.user_id
       cross join lateral (
             select case
                      when g.tenants = 1 then null
                      when g.tenants > 1 then 'invalid_body'
                      when r.user_id is not null and r.user_id <> all (v_administrators) then 'forbidden'
                      when r.tenant_id is null then 'invalid_body'
                    end as refused) as n
    ), asked as materialized (
      select r.ordinality as position, r.place_id as tenant_id, r.from_user_id, r.role, r.department_id, r.has_budget, r.refused,
             r.user_id, r.recipients, r.message, r.award_tier, r.idempotency_key, r.request_id, coalesce(r.award, false) as award,
             coalesce(r.recognition_type, 'standard') as recognition_type, coalesce(r.split, 'flat') as split,
             coalesce(r.visibility, 'public') as visibility, n.heads, r.points as said, n.tier_points,
             coalesce(r.points, n.tier_points, 0) as each_points,
             t.is_active, t.allocation_mode, t.peer_to_peer_enabled, d.monthly_cap,
             case when r.idempotency_key is not null then
               encode(sha256(convert_to(row(
                 r.recipients, trim_scale(r.points), r.message, coalesce(r.recognition_type, 'standard'), r.award_tier,
                 coalesce(r.split, 'flat'), coalesce(r.visibility, 'public'), coalesce(r.award, false))::text, 'UTF8')), 'hex')
             end as request_hash
        from placed as r
        left join tenant as t on t.id = r.place_id
        left join lateral (
             select x.monthly_cap from public.departments as x
              where x.tenant_id = r.place_id and x.id = r.department_id limit 1) as d on true
       cross join lateral (
             select coalesce(cardinality(r.recipients), 0) as heads,
                    case when jsonb_typeof(t.award_tiers -> r.award_tier) = 'number'
                         then (t.award_tiers ->> r.award_tier)::numeric end as tier_points) as n
    ), judged as materialized (
      select k.*,
             case
               when k.refused is not null then k.refused
               when not coalesce(k.is_active, false) then 'tenant_not_found'
               when k.message is null or k.message !~ '\S' or length(k.message) > 2000 or length(k.idempotency_key) > 200
                    or k.recognition_type not in ('standard', 'individual_award', 'group_award', 'ecard')
                    or k.visibility not in ('public', 'private', 'department') or k.split not in ('flat', 'equal')
                    or k.heads not between 1 and 200 or array_position(k.recipients, null) is not null
                    or k.heads > 1 and k.heads > (select count(distinct x.user_id) from unnest(k.recipients) as x(user_id))
                    or k.award_tier is not null and k.tier_points is null then 'invalid_body'
               when not (k.each_points between 0 and 9999999999999.99) or scale(trim_scale(k.each_points)) > 2
                    or k.said <> k.tier_points or k.award and k.each_points = 0
                    or k.split = 'flat' and k.each_points * k.heads > 9999999999999.99
                    or k.split = 'equal' and k.each_points > 0 and k.each_points < k.heads / 100.0 then 'invalid_amount'
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
        from asked as k
    )
    select row(
             j.position, null, j.tenant_id, j.user_id, j.from_user_id, j.department_id, j.monthly_cap, j.recipients,
             case when j.verdict is not null then null
                  when j.split = 'flat' then array_fill(j.each_points, array[j.heads])
                  -- What does not divide goes to the first of them, a hundredth each.
                  else array(
                    select (trunc(j.each_points * 100 / j.heads) + case when g.place <= j.each_points * 100 % j.heads then 1 else 0 end) / 100
                      from generate_series(1, j.heads) as g(place)
                     order by g.place) end,
             -- Of what is refused nothing is reckoned: it may be more than any number holds.
             null, null, case when j.verdict is not null then null when j.split = 'equal' then j.each_points else j.each_points * j.heads end,
             j.message, j.recognition_type, j.award_tier, j.visibility,
             case when j.from_user_id is null then array['tenant.pool']
                  when j.role = 'employee' then array['tenant.wallet:' || j.user_id]
                  else case when j.has_budget then array['tenant.lead:' || j.user_id] else '{}' end
                       || array['tenant.pool']
                       || case when j.allocation_mode = 'legacy_fallback' and j.department_id is not null
                               then array['tenant.budget:' || j.department_id] else '{}' end
                       || case when j.allocation_mode = 'legacy_fallback' then array['tenant.wallet:' || j.user_id] else '{}' end end,
             null, null, j.idempotency_key, j.request_hash, j.request_id, j.verdict,
             case j.verdict
               when 'forbidden' then case when j.role is null then 'This is open to the members of a tenant only.'
                                          else 'This is open to managers and leads only.' end
               when 'invalid_amount' then case
                 when j.said <> j.tier_points then 'points: the award tier says how many'
                 when j.split = 'equal' and j.each_points > 0 and j.each_points < j.heads / 100.0 then 'points: there is not a hundredth for each'
                 else 'points: must be at most 9999999999999.99 in all, not below 0, with at most two decimal places' end
               when 'invalid_body' then case
                 when j.refused is not null then 'tenant_id: must be named'
                 when j.message is null or j.message !~ '\S' or length(j.message) > 2000 then 'message: must say something, in at most 2000 characters'
                 when length(j.idempotency_key) > 200 then 'idempotency_key: must have at most 200 characters'
                 when j.recognition_type not in ('standard', 'individual_award', 'group_award', 'ecard')
                   then 'recognition_type: must be standard, individual_award, group_award or ecard'
                 when j.visibility not in ('public', 'private', 'department') then 'visibility: must be public, private or department'
                 when j.split not in ('flat', 'equal') then 'split: must be flat or equal'
                 when j.award_tier is not null and j.tier_points is null then 'award_tier: there is no such tier'
                 else 'recipients: must be 1 to 200, each named once' end
             end)::internal.recognition_ask
      from judged as j
     order by j.position);
end
$$;

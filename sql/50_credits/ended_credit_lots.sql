-- What becomes of these users' lots whose time is up: how much of each keeps for a month more, how much is lost. What is
-- reserved outlives its lot, so never more is lost than can be spent; and of a user's monthly credits as many keep as the
-- tier allows, those that kept before and still do counted, the latest first. What ended a month ago keeps no more, whether
-- anybody saw it end or not.

create or replace function internal.ended_credit_lots(p_user_ids uuid[])
returns table (user_id uuid, grant_id uuid, keeps numeric, loses numeric)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  return query
  with lot as (
    select g.user_id, g.grant_id, g.source, g.remaining, g.expires_at, g.created_at, a.available,
           greatest(0, coalesce(t.rollover_max, 0) - k.remaining) as may_keep,
           sum(g.remaining) filter (where g.source = 'allocation') over (
             partition by g.user_id order by g.expires_at desc, g.created_at desc, g.grant_id desc) as allocated_until
      from unnest(p_user_ids) as u(user_id)
     cross join lateral (
           select x.* from public.credit_grants as x
            where x.user_id = u.user_id and x.is_open and x.expires_at <= v_now) as g
     cross join lateral (select x.tier from public.user_credits as x where x.user_id = u.user_id limit 1) as c
      left join public.pricing_tiers as t on t.version = internal.pricing_version() and t.tier = c.tier
     cross join lateral (
           select coalesce(sum(x.remaining), 0) as remaining from public.credit_grants as x
            where x.user_id = u.user_id and x.is_open and x.source = 'rollover' and x.expires_at > v_now) as k
     cross join lateral (
           select (x.balance - x.held)::numeric / 1000000 as available from ledger.accounts as x
            where x.book_id = u.user_id and x.account = 'credits' limit 1) as a
  ), kept as (
    select l.*, case when l.source = 'allocation' and l.expires_at + interval '1 month' > v_now
                     then least(l.remaining, greatest(0, l.may_keep - (l.allocated_until - l.remaining))) else 0 end as keep
      from lot as l
  ), ended as (
    select k.*, sum(k.remaining - k.keep) over (
             partition by k.user_id order by k.expires_at, k.created_at, k.grant_id) as until
      from kept as k
  )
  select e.user_id, e.grant_id, e.keep::numeric,
         greatest(0, least(e.remaining - e.keep, e.available - (e.until - (e.remaining - e.keep))))::numeric
    from ended as e;
end
$$;

-- How the balances are distributed, for an administrator: in all and by tier, how many users there are, quantiles, and how
-- many lie between one power of ten and the next. A range begins after its `above` and ends with its `up_to`; who has
-- nothing, and who owes, are ranges of their own.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden.

create or replace function public.credit_analytics_distribution(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_answer jsonb;
begin
  perform internal.actor(p_user_id);

  with range as (
    select b.position, b.above, lead(b.above) over (order by b.position) as up_to
      from unnest(array[null, -0.000001, 0, 1, 10, 100, 1000, 10000, 100000]::numeric[]) with ordinality as b(above, position)
  ), balance as (
    select c.tier, c.balance,
           width_bucket(c.balance - 0.000001, array[-0.000001, 0, 1, 10, 100, 1000, 10000, 100000]::numeric[]) + 1 as position
      from public.user_credits as c
  ), described as (
    select b.tier, grouping(b.tier) = 1 as is_all, count(*) as users, sum(b.balance) as total,
           percentile_disc(array[0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) within group (order by b.balance) as quantiles
      from balance as b
     group by grouping sets ((), (b.tier))
  ), counted as (
    select b.tier, grouping(b.tier) = 1 as is_all, b.position, count(*) as users
      from balance as b
     group by grouping sets ((b.position), (b.tier, b.position))
  ), told as (
    select d.tier, d.is_all, jsonb_build_object(
             'users', d.users, 'balance', internal.credits_json(coalesce(d.total, 0)),
             'quantiles', (select jsonb_object_agg(q.name, internal.credits_json(d.quantiles[q.place]))
                             from unnest(array['p10', 'p25', 'p50', 'p75', 'p90', 'p99']) with ordinality as q(name, place)),
             'histogram', (select coalesce(jsonb_agg(jsonb_build_object(
                                    'above', internal.credits_json(r.above),
                                    'up_to', internal.credits_json(r.up_to), 'users', c.users) order by r.position), '[]')
                             from counted as c
                             join range as r on r.position = c.position
                            where c.is_all = d.is_all and c.tier is not distinct from d.tier)) as answer
      from described as d
  )
  select (select t.answer from told as t where t.is_all)
         || jsonb_build_object('by_tier', coalesce((
              select jsonb_agg(jsonb_build_object('tier', t.tier) || t.answer order by p.position, t.tier)
                from told as t
                left join public.pricing_tiers as p on p.version = internal.pricing_version() and p.tier = t.tier
               where not t.is_all), '[]'))
    into v_answer;
  return v_answer;
end
$$;

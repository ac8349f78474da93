-- What everybody has and used, for an administrator: users and balances, in all and by tier, and usage in all, by month and
-- by model. The usage is that of whole months in UTC: all that the time from p_start_date until p_end_date touches. `from`
-- and `to` are their first day and their last.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.credit_analytics_system(p_user_id uuid, p_start_date timestamptz default null, p_end_date timestamptz default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_from date := date_trunc('month', p_start_date)::date;
  v_until date := (date_trunc('month', p_end_date - interval '1 microsecond') + interval '1 month')::date;
  v_answer jsonb;
begin
  perform internal.actor(p_user_id);
  if p_end_date < p_start_date then
    perform internal.refuse('invalid_body', 'end_date: must not lie before start_date');
  end if;

  with tier as materialized (
    select c.tier, count(*) as users, sum(c.balance) as balance, sum(c.credits_allocated) as allocated
      from public.user_credits as c
     group by c.tier
  ), used as materialized (
    select u.month, u.provider, u.model, u.events, u.failures, u.tokens, u.cost, u.refunded
      from internal.usage_by_month as u
     where u.month >= coalesce(v_from, '-infinity') and u.month < coalesce(v_until, 'infinity')
  ), month as (
    select u.month, sum(u.events) as events, sum(u.failures) as failures, sum(u.tokens) as tokens, sum(u.cost) as cost,
           sum(u.refunded) as refunded
      from used as u
     group by u.month
  ), model as (
    select u.provider, u.model, sum(u.events) as events, sum(u.failures) as failures, sum(u.tokens) as tokens, sum(u.cost) as cost,
           sum(u.refunded) as refunded
      from used as u
     group by u.provider, u.model
  )
  select jsonb_build_object(
           'from', v_from, 'to', v_until - 1,
           'users', coalesce((select sum(t.users) from tier as t), 0),
           'balance', internal.credits_json(coalesce((select sum(t.balance) from tier as t), 0)),
           'allocated', internal.credits_json(coalesce((select sum(t.allocated) from tier as t), 0)),
           'spent', internal.credits_json(coalesce((select sum(m.cost - m.refunded) from month as m), 0)),
           'by_tier', coalesce((
             select jsonb_agg(jsonb_build_object('tier', t.tier, 'users', t.users, 'balance', internal.credits_json(t.balance),
                                'allocated', internal.credits_json(t.allocated)) order by p.position, t.tier)
               from tier as t
               left join public.pricing_tiers as p on p.version = internal.pricing_version() and p.tier = t.tier), '[]'),
           'usage', jsonb_build_object(
             'events', coalesce((select sum(m.events) from month as m), 0),
             'failures', coalesce((select sum(m.failures) from month as m), 0),
             'tokens', coalesce((select sum(m.tokens) from month as m), 0),
             'cost', internal.credits_json(coalesce((select sum(m.cost) from month as m), 0)),
             'refunded', internal.credits_json(coalesce((select sum(m.refunded) from month as m), 0)),
             'by_month', coalesce((
               select jsonb_agg(jsonb_build_object('month', to_char(m.month, 'YYYY-MM'), 'events', m.events, 'failures', m.failures,
                                  'tokens', m.tokens, 'cost', internal.credits_json(m.cost),
                                  'refunded', internal.credits_json(m.refunded)) order by m.month)
                 from month as m), '[]'),
             'by_model', coalesce((
               select jsonb_agg(jsonb_build_object('provider', nullif(m.provider, ''), 'model', nullif(m.model, ''), 'events', m.events,
                                  'failures', m.failures, 'tokens', m.tokens, 'cost', internal.credits_json(m.cost),
                                  'refunded', internal.credits_json(m.refunded)) order by m.cost desc, m.model, m.provider)
                 from model as m), '[]')))
    into v_answer;
  return v_answer;
end
$$;

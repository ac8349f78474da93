-- What a user used: in all, and by model, provider, power level or month in UTC, from one moment to another, which is not
-- included; without them since ever, until now. Whole months are read from their sums, and what the two moments cut off
-- from the events themselves, so it is exact, and quick over years. `share` is the part of the cost; what an event did not
-- tell is null. What was refunded counts in the month of the usage that it gave back.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function public.usage_statistics(
  p_user_id    uuid,
  p_group_by   text default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_from timestamptz := coalesce(p_start_date, '-infinity');
  v_until timestamptz := coalesce(p_end_date, 'infinity');
  -- The whole months between.
  v_first timestamptz := date_trunc('month', v_from);
  v_end timestamptz := date_trunc('month', v_until);
  v_answer jsonb;
begin
  perform internal.act_for(array[p_user_id]);
  if p_group_by not in ('model', 'provider', 'power_level', 'month') then
    perform internal.refuse('invalid_body', 'group_by: must be model, provider, power_level or month');
  elsif v_until < v_from then
    perform internal.refuse('invalid_body', 'end_date: must not lie before start_date');
  end if;
  if v_first < v_from then
    v_first := v_first + interval '1 month';
  end if;
  if v_end <= v_first then
    v_first := v_until;
    v_end := v_until;
  end if;

  with used as materialized (
    select r.month, nullif(r.provider, '') as provider, nullif(r.model, '') as model, nullif(r.power_level, '') as power_level,
           r.events, r.failures, r.tokens, r.cost, r.refunded
      from public.usage_rollups as r
     where r.user_id = p_user_id and r.month >= v_first::date and r.month < v_end::date
    union all
    select date_trunc('month', e.created_at)::date, e.provider, e.model, e.power_level, 1, case when e.success then 0 else 1 end,
           e.tokens_used, e.cost, case when e.transaction_id is null then 0 else (
             select coalesce(sum(t.amount), 0)
               from public.credit_transactions as t
              where t.user_id = p_user_id and t.refund_of = e.transaction_id) end
      -- In their order, which leads the planner to the index by time, and away from all that the user ever used.
      from ((select x.* from public.usage_events as x
              where x.user_id = p_user_id and x.created_at >= v_from and x.created_at < v_first
              order by x.created_at desc, x.id desc)
            union all
            (select x.* from public.usage_events as x
              where x.user_id = p_user_id and x.created_at >= v_end and x.created_at < v_until
              order by x.created_at desc, x.id desc)) as e
  ), whole as materialized (
    select coalesce(sum(u.events), 0) as events, coalesce(sum(u.failures), 0) as failures, coalesce(sum(u.tokens), 0) as tokens,
           coalesce(sum(u.cost), 0) as cost, coalesce(sum(u.refunded), 0) as refunded
      from used as u
  ), named as (
    select case p_group_by when 'model' then u.model when 'provider' then u.provider when 'power_level' then u.power_level
                           else to_char(u.month, 'YYYY-MM') end as name,
           sum(u.events) as events, sum(u.failures) as failures, sum(u.tokens) as tokens, sum(u.cost) as cost, sum(u.refunded) as refunded
      from used as u
     where p_group_by is not null
     group by 1
  )
  select jsonb_build_object(
           'from', p_start_date, 'to', p_end_date,
           'total', jsonb_build_object('events', w.events, 'failures', w.failures, 'tokens', w.tokens,
                      'cost', internal.credits_json(w.cost), 'refunded', internal.credits_json(w.refunded)),
           'groups', coalesce((
             select jsonb_agg(jsonb_build_object(
                      p_group_by, n.name, 'events', n.events, 'failures', n.failures, 'tokens', n.tokens,
                      'cost', internal.credits_json(n.cost), 'refunded', internal.credits_json(n.refunded),
                      'share', round(coalesce(n.cost / nullif(w.cost, 0), 0), 4))
                      order by case when p_group_by = 'month' then n.name end, n.cost desc, n.name)
               from named as n), '[]'))
    into v_answer
    from whole as w;
  return v_answer;
end
$$;

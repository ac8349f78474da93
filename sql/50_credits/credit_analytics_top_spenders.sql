-- Whose usage cost most in a calendar month, in UTC, for an administrator: that in which p_month lies, or the running one.
-- What was refunded is taken off.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.credit_analytics_top_spenders(p_user_id uuid, p_month date default null, p_limit int default 10)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set jit = off
as $$
declare
  v_month date := date_trunc('month', coalesce(p_month, (internal.clock() at time zone 'UTC')::date))::date;
  v_answer jsonb;
begin
  perform internal.actor(p_user_id);
  if p_limit is null or p_limit not between 1 and 100 then
    perform internal.refuse('invalid_body', 'limit: must be between 1 and 100');
  end if;

  with top as (
    select r.user_id, sum(r.cost - r.refunded) as spent, sum(r.events) as events, sum(r.tokens) as tokens
      from public.usage_rollups as r
     where r.month = v_month
     group by r.user_id
     order by 2 desc, r.user_id
     limit p_limit
  )
  select jsonb_build_object('month', to_char(v_month, 'YYYY-MM'), 'spenders', coalesce(jsonb_agg(
           jsonb_build_object('user_id', t.user_id, 'tier', coalesce(c.tier, 'free'), 'spent', internal.credits_json(t.spent),
             'events', t.events, 'tokens', t.tokens, 'balance', internal.credits_json(coalesce(c.balance, 0)))
           order by t.spent desc, t.user_id), '[]'))
    into v_answer
    from top as t
    left join public.user_credits as c on c.user_id = t.user_id;
  return v_answer;
end
$$;

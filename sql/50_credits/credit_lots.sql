-- A user's credits lot by lot, in the order in which they are spent, and which end next. What has ended is not there to be
-- spent, whether its expiry is posted yet or not.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; a user without a row has none.

create or replace function public.credit_lots(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  perform internal.act_for(array[p_user_id]);
  return (
    with ended as materialized (
      select * from internal.ended_credit_lots(array[p_user_id])
    ), lot as materialized (
      select g.grant_id, case when e.keeps > 0 then 'rollover' else g.source end as source, g.priority, g.amount,
             g.remaining - coalesce(e.loses, 0) as remaining, g.created_at,
             case when e.keeps > 0 then g.expires_at + interval '1 month' else g.expires_at end as expires_at
        from public.credit_grants as g
        left join ended as e on e.grant_id = g.grant_id
       where g.user_id = p_user_id and g.is_open and g.remaining > coalesce(e.loses, 0)
    ), account as (
      select coalesce(sum(a.balance), 0) / 1000000.0 - coalesce((select sum(e.loses) from ended as e), 0) as balance,
             coalesce(sum(a.held), 0) / 1000000.0 as held
        from ledger.accounts as a
       where a.book_id = p_user_id and a.account = 'credits'
    )
    select jsonb_build_object(
             'balance', internal.credits_json(a.balance), 'reserved', internal.credits_json(a.held),
             'available', internal.credits_json(a.balance - a.held),
             'lots', coalesce((
               select jsonb_agg(jsonb_build_object(
                        'grant_id', l.grant_id, 'source', l.source, 'priority', l.priority, 'amount', internal.credits_json(l.amount),
                        'remaining', internal.credits_json(l.remaining), 'expires_at', l.expires_at)
                        order by l.priority, l.expires_at, l.created_at, l.grant_id)
                 from lot as l), '[]'),
             'expires_next', (
               select jsonb_build_object('credits', internal.credits_json(sum(l.remaining)), 'expires_at', l.expires_at)
                 from lot as l
                where l.expires_at > v_now
                group by l.expires_at
                order by l.expires_at
                limit 1))
      from account as a);
end
$$;

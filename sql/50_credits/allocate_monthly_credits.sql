-- Gives their tier's monthly credits to at most p_limit users whose month has begun: a lot that ends when the next one comes.
-- Returns {"allocated": users, "credits": n}. A month begins on the day of the month when the first did, or where a month is
-- too short for that on its last, and on that day from then on. Months that were missed are not made up: however late it is,
-- one allocation comes, and the next on the first due day still ahead. Tiers without monthly credits get none, and are no
-- longer due.
--
-- Replay:  one allocation a due day, under the key 'allocation:<day>'; on the same day another one comes only to who has
--          moved into a tier of more, under 'allocation:<day>:<tier>'.
-- Locks:   internal.lock_credits of all of them.
-- Refuses: nothing.

create or replace function public.allocate_monthly_credits(p_limit int default 1000)
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
  v_users uuid[];
  v_given jsonb;
  v_moves internal.credit_movement[];
begin
  v_users := array(
    select c.user_id from public.user_credits as c where c.allocation_due_at <= v_now order by c.allocation_due_at limit p_limit);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  -- Another one may have given them meanwhile: they are due no more. A key that stands for something else costs
  -- nobody their month.
  select jsonb_agg(to_jsonb(d)) into v_given
    from (
      select c.user_id, n.next_at, t.monthly_credits as credits, t.monthly_credits > coalesce(x.most, 0) as is_given,
             (select k.key from unnest(k.keys) as k(key) where not k.key = any (coalesce(x.taken, '{}')) order by k.key limit 1) as key
        from public.user_credits as c
        left join public.pricing_tiers as t on t.version = internal.pricing_version() and t.tier = c.tier
       cross join lateral (
             select array[d.day, d.day || ':' || c.tier] as keys
               from (select 'allocation:' || to_char(c.allocation_due_at, 'YYYY-MM-DD') as day) as d) as k
       cross join lateral (select extract(year from a.late) * 12 + extract(month from a.late) as months
                             from (select age(v_now, c.allocation_due_at) as late) as a) as l
       cross join lateral (
             select min(s.at) as next_at
               from (select c.allocation_due_at + make_interval(months => m.n) as at
                       from generate_series(l.months::int, l.months::int + 2) as m(n)) as s
              where s.at > v_now) as n
       cross join lateral (
             select max(y.amount) filter (where y.transaction_type = 'allocation') as most, array_agg(y.idempotency_key) as taken
               from public.credit_transactions as y
              where y.user_id = c.user_id and y.idempotency_key = any (k.keys)) as x
       where c.user_id = any (v_users) and c.allocation_due_at <= v_now) as d;

  v_moves := array(
    select internal.credit_move(
             g.user_id, g.credits, 'allocation', p_reason => 'The month''s credits', p_actor => 'system',
             p_idempotency_key => g.key, p_expires_at => g.next_at)
      from jsonb_to_recordset(v_given) as g(user_id uuid, credits numeric, key text, next_at timestamptz, is_given boolean)
     where g.is_given);
  perform from internal.move_credits(v_moves);

  update public.user_credits as c
     set last_reset        = case when g.is_given then v_now else c.last_reset end,
         allocation_due_at = case when g.credits > 0 then g.next_at end,
         updated_at        = v_now
    from jsonb_to_recordset(v_given) as g(user_id uuid, credits numeric, next_at timestamptz, is_given boolean)
   where c.user_id = g.user_id;

  return (
    select jsonb_build_object('allocated', count(*), 'credits', internal.credits_json(coalesce(sum(m.amount), 0)))
      from unnest(v_moves) as m);
end
$$;

-- Moves credits for a set of movements, and keeps everything that tells of them equal to the ledger: the statement, the
-- lots, the balance. The only way credits move. Whoever calls it holds internal.lock_credits for all of the users.
-- A set may hold several movements of a user, which are then all of one direction.
--
-- What is spent is taken from the lots in their order: the lowest priority first, then the first to expire, then the
-- oldest; an expiry takes from the lot that it names. Movements lie end to end on one line and lots on another: where
-- the two overlap, one takes from the other. What an account that may owe spends beyond its lots is taken from none, and
-- what comes next pays that first. A refund goes back to the lots it came from, last spent first; what came from a lot that
-- has expired meanwhile comes as a new one.
--
-- Replay:  a movement whose transfer is in the book moves nothing again.
-- Locks:   none of its own.
-- Refuses: insufficient_funds, as an outcome.

create or replace function internal.move_credits(p_moves internal.credit_movement[])
returns setof internal.credit_moved
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_posted ledger.posted[];
begin
  if cardinality(p_moves) = 1 and p_moves[1].transaction_type = 'usage' and p_moves[1].amount <= 0 and p_moves[1].lot_id is null then
    return next internal.charge_use(p_moves[1]);
    return;
  end if;

  v_posted := array(
    select o
      from ledger.post(array(
             select row(m.id, m.user_id,
                        case when m.amount < 0 then 'credits' else c.account end,
                        case when m.amount < 0 then c.account else 'credits' end,
                        (abs(m.amount) * 1000000)::bigint, m.transaction_type, 'credit_transaction', m.id, m.created_at)::ledger.posting
               from unnest(p_moves) with ordinality as m
              cross join lateral (
                    select case m.transaction_type
                             when 'usage' then 'credits.used' when 'refund' then 'credits.used'
                             when 'purchase' then 'credits.sold'
                             when 'bonus' then 'credits.granted' when 'allocation' then 'credits.granted'
                             when 'expiry' then 'credits.expired'
                             when 'adjustment' then 'credits.adjusted' end as account) as c
              where m.amount <> 0
              order by m.ordinality)) as o);

  return query
  with judged as materialized (
    select m.*, coalesce(o.outcome, 'posted') as outcome, coalesce(c.balance, 0) as balance_before
      from unnest(p_moves) with ordinality as m
      left join unnest(v_posted) as o on o.transfer_id = m.id
      left join lateral (select x.balance from public.user_credits as x where x.user_id = m.user_id limit 1) as c on true
  ), move as materialized (
    -- Of what comes, what was owed is paid first; the rest is for the lots.
    select r.*, greatest(0, least(r.amount, r.balance_after)) as for_lots
      from (select j.*, j.balance_before + sum(j.amount) over (partition by j.user_id order by j.ordinality) as balance_after
              from judged as j
             where j.outcome = 'posted') as r
  ), spent as (
    select m.user_id, m.id, -m.amount as amount, sum(-m.amount) over (partition by m.user_id order by m.ordinality) as until
      from move as m
     where m.amount < 0 and m.lot_id is null
  ), stock as (
    select g.user_id, g.grant_id, g.remaining, sum(g.remaining) over (
             partition by g.user_id order by g.priority, g.expires_at, g.created_at, g.grant_id) as until
      from (select distinct s.user_id from spent as s) as u
     cross join lateral (
           select x.* from public.credit_grants as x where x.user_id = u.user_id and x.is_open) as g
  ), given_back as (
    -- What is left of what each lot gave for the usage that is refunded, last spent first.
    select m.user_id, m.id, m.for_lots as amount, f.grant_id, f.taken, f.has_expired, f.expires_at,
           sum(f.taken) over (partition by m.id order by f.place) as until
      from move as m
     cross join lateral (
           -- Refunds before this one that came as new lots took the place of lots that had expired.
           -- They are looked for so that a user's transactions are no way in.
           select l.*, case when l.has_expired
                            then greatest(0, least(l.gave, sum(l.gave) filter (where l.has_expired) over (order by l.place) - n.amount))
                            else l.gave end as taken
             from (
                   select g.grant_id, g.expires_at, (g.expires_at <= v_now) is true as has_expired,
                          row_number() over (
                            order by g.priority desc, g.expires_at desc nulls first, g.created_at desc, g.grant_id desc) as place,
                          -e.amount - coalesce((
                            select sum(b.amount)
                              from public.credit_transactions as t
                              join public.credit_lot_entries as b on b.user_id = t.user_id and b.transaction_id = t.id and b.grant_id = g.grant_id
                             where t.refund_of = m.refund_of and (t.user_id = m.user_id) is true), 0) as gave
                     from public.credit_lot_entries as e
                     join public.credit_grants as g on g.user_id = e.user_id and g.grant_id = e.grant_id
                    where e.user_id = m.user_id and e.transaction_id = m.refund_of) as l
            cross join (
                   select coalesce(sum(b.amount), 0) as amount
                     from public.credit_transactions as t
                     join public.credit_lot_entries as b on b.user_id = t.user_id and b.transaction_id = t.id and b.grant_id = t.id
                    where t.refund_of = m.refund_of and (t.user_id = m.user_id) is true) as n) as f
     where m.transaction_type = 'refund' and f.taken > 0
  ), returned as (
    select b.user_id, b.id, b.grant_id, b.has_expired, b.expires_at, least(b.until, b.amount) - (b.until - b.taken) as amount
      from given_back as b
     where b.until - b.taken < b.amount
  ), brought as (
    select m.user_id, m.id, m.source, m.priority, m.expires_at, m.amount, m.for_lots as remaining
      from move as m
     where m.amount > 0 and m.transaction_type <> 'refund'
    union all
    select m.user_id, m.id, 'refund', m.priority, v_now + interval '30 days', k.amount, k.amount
      from move as m
     cross join lateral (
           select m.for_lots - coalesce(sum(r.amount) filter (where not r.has_expired), 0) as amount from returned as r where r.id = m.id) as k
     where m.transaction_type = 'refund' and k.amount > 0
  ), entry as materialized (
    select s.user_id, s.id, k.grant_id, -(least(s.until, k.until) - greatest(s.until - s.amount, k.until - k.remaining)) as amount
      from spent as s
      join stock as k on k.user_id = s.user_id and k.until > s.until - s.amount and k.until - k.remaining < s.until
    union all
    select m.user_id, m.id, m.lot_id, m.amount from move as m where m.amount < 0 and m.lot_id is not null
    union all
    select r.user_id, r.id, r.grant_id, r.amount from returned as r where not r.has_expired
    union all
    select b.user_id, b.id, b.id, b.remaining from brought as b where b.remaining > 0
  ), opened as (
    insert into public.credit_grants (user_id, grant_id, source, priority, amount, remaining, expires_at, created_at)
    select b.user_id, b.id, b.source, b.priority, b.amount, b.remaining, b.expires_at, v_now from brought as b
  ), changed as (
    update public.credit_grants as g
       set remaining = g.remaining + e.amount
      from (select x.user_id, x.grant_id, sum(x.amount) as amount from entry as x where x.grant_id <> x.id group by x.user_id, x.grant_id) as e
     where g.user_id = e.user_id and g.grant_id = e.grant_id
  ), entered as (
    insert into public.credit_lot_entries (user_id, transaction_id, grant_id, amount)
    select e.user_id, e.id, e.grant_id, e.amount from entry as e
  ), told as (
    insert into public.credit_transactions (
           user_id, id, amount, balance_after, transaction_type, reason, provider, model, power_level, tokens_used, cost, metadata,
           refund_of, idempotency_key, request_hash, actor, request_id, created_at)
    select m.user_id, m.id, m.amount, m.balance_after, m.transaction_type, m.reason, m.provider, m.model, m.power_level, m.tokens_used,
           m.cost, m.metadata, m.refund_of, m.idempotency_key, m.request_hash, m.actor, m.request_id, m.created_at
      from move as m
  ), kept as (
    insert into public.user_credits as c (user_id, balance, credits_allocated, lots_due_at, version, updated_at)
    select m.user_id, sum(m.amount), coalesce(sum(m.amount) filter (where m.amount > 0 and m.transaction_type <> 'refund'), 0),
           -- What was used up and is given back ends when it would have.
           coalesce(least((select min(b.expires_at) from brought as b where b.user_id = m.user_id),
                          (select min(r.expires_at) from returned as r where r.user_id = m.user_id and not r.has_expired)), 'infinity'),
           1, v_now
      from move as m
     group by m.user_id
     order by m.user_id
    on conflict (user_id) do update
       set balance           = c.balance + excluded.balance,
           credits_allocated = c.credits_allocated + excluded.credits_allocated,
           lots_due_at       = least(c.lots_due_at, excluded.lots_due_at),
           version           = c.version + 1,
           updated_at        = excluded.updated_at
  )
  select j.ordinality::int, j.id, j.outcome, m.balance_after::numeric(18, 6)
    from judged as j
    left join move as m on m.ordinality = j.ordinality
   order by j.ordinality;
end
$$;

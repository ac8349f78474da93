-- Moves value: the only place that does. Takes one posting or a thousand; each is posted or refused by itself.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: insufficient_funds, as an outcome: the account would fall below its floor, holds counted as gone.
--
-- Postings of a set are taken in order of arrival. A book in which one does not fit is posted one by one, because
-- what is refused leaves room for what comes after it.
-- Look-ups are lateral, so that each goes by its own key and never through all rows of the call's subjects.

create or replace function ledger.post(p_postings ledger.posting[])
returns setof ledger.posted
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_crowded uuid[];  -- the books in which not everything fits
  v_posted ledger.posted;
  v_crowd ledger.posted[];
begin
  if cardinality(p_postings) = 1 then
    return next ledger.post_one(p_postings[1]);
    return;
  end if;

  select array_agg(l.book_id)
    into v_crowded
    from (
      select p.book_id, s.account, sum(s.amount) as amount
        from unnest(p_postings) as p
       cross join lateral (values (p.from_account, p.amount), (p.to_account, 0)) as s(account, amount)
       group by p.book_id, s.account
       order by p.book_id, s.account) as l
    left join lateral (
         select a.balance - a.held - a.floor as room
           from ledger.accounts as a
          where a.book_id = l.book_id and a.account = l.account
            for update) as a on true
   where l.amount > coalesce(
           a.room, (select -c.floor from ledger.chart_of_accounts as c where c.account = split_part(l.account, ':', 1)), l.amount);

  if v_crowded is not null then
    -- More leaves an account than it holds. What comes in on the way may pay for it, and what is in the book already counts
    -- for nothing: so it is looked at more closely, which most sets need not be.
    with leg as (
      select p.position, p.book_id, l.account, l.delta, c.floor
        from unnest(p_postings) with ordinality as p(
               transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
       cross join lateral (values (p.from_account, -p.amount), (p.to_account, p.amount)) as l(account, delta)
        join ledger.chart_of_accounts as c on c.account = split_part(l.account, ':', 1) and c.floor is not null
       where p.book_id = any (v_crowded)
         and (select t.amount from ledger.transfers as t
               where t.book_id = p.book_id and t.transfer_id = p.transfer_id) is null
    ), running as (
      select l.book_id, l.account, l.floor, l.delta,
             sum(l.delta) over (partition by l.book_id, l.account order by l.position) as moved
        from leg as l
    ), lowest as (
      select r.book_id, r.account, r.floor, min(r.moved) filter (where r.delta < 0) as moved
        from running as r
       group by r.book_id, r.account, r.floor
    )
    select array_agg(l.book_id)
      into v_crowded
      from lowest as l
      left join lateral (
           select a.balance - a.held - a.floor as room
             from ledger.accounts as a
            where a.book_id = l.book_id and a.account = l.account limit 1) as a on true
     where coalesce(a.room, -l.floor) + l.moved < 0;
  end if;

  if v_crowded is not null then
    for v_position in 1 .. cardinality(p_postings) loop
      if p_postings[v_position].book_id = any (v_crowded) then
        v_posted := ledger.post_one(p_postings[v_position]);
        v_posted.position := v_position;
        v_crowd := v_crowd || v_posted;
      end if;
    end loop;
    return query
    select c.position, c.transfer_id, c.outcome, case when c.outcome = 'posted' then f.available end,
           case when c.outcome = 'posted' then t.available end
      from unnest(v_crowd) as c
      left join lateral (
           select a.balance - a.held as available from ledger.accounts as a
            where a.book_id = p_postings[c.position].book_id and a.account = p_postings[c.position].from_account limit 1) as f on true
      left join lateral (
           select a.balance - a.held as available from ledger.accounts as a
            where a.book_id = p_postings[c.position].book_id and a.account = p_postings[c.position].to_account limit 1) as t on true;
  end if;

  return query
  with posting as materialized (
    -- No asset, and so an error, where the two accounts are not of one asset or not in the chart.
    select p.*, case when f.asset = o.asset then f.asset end as asset, f.floor as from_floor, o.floor as to_floor,
           t.transfer_id is not null as replayed
      from unnest(p_postings) with ordinality as p(
             transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
      left join ledger.chart_of_accounts as f on f.account = split_part(p.from_account, ':', 1)
      left join ledger.chart_of_accounts as o on o.account = split_part(p.to_account, ':', 1)
      left join lateral (
           select x.transfer_id from ledger.transfers as x
            where x.book_id = p.book_id and x.transfer_id = p.transfer_id limit 1) as t on true
     where v_crowded is null or not p.book_id = any (v_crowded)
  ), written as (
    insert into ledger.transfers as t (
           transfer_id, book_id, from_account, to_account, asset, amount, kind, source_type, source_id, effective_at, recorded_at)
    select p.transfer_id, p.book_id, p.from_account, p.to_account, p.asset, p.amount, p.kind,
           p.source_type, p.source_id, coalesce(p.effective_at, v_now), v_now
      from posting as p
     where not p.replayed
  ), moved as (
    select p.book_id, l.account, p.asset, l.floor, sum(l.delta)::bigint as delta
      from posting as p
     cross join lateral (values (p.from_account, -p.amount, p.from_floor), (p.to_account, p.amount, p.to_floor)) as l(account, delta, floor)
     where not p.replayed and l.floor is not null
     group by p.book_id, l.account, p.asset, l.floor
     order by p.book_id, l.account
  ), changed as (
    update ledger.accounts as a
       set balance = a.balance + m.delta, updated_at = v_now
      from moved as m
     where a.book_id = m.book_id and a.account = m.account
    returning a.book_id, a.account, a.balance - a.held as available
  ), opened as (
    insert into ledger.accounts as a (book_id, account, asset, balance, floor, updated_at)
    select m.book_id, m.account, m.asset, m.delta, m.floor, v_now
      from moved as m
     where not exists (select from changed as c where c.book_id = m.book_id and c.account = m.account)
     order by m.book_id, m.account
    on conflict (book_id, account) do update
       set balance = a.balance + excluded.balance, updated_at = v_now
    returning a.book_id, a.account, a.balance - a.held as available
  ), now_available as (
    select * from changed union all select * from opened
  )
  select p.position::int, p.transfer_id,
         case when p.replayed then 'replayed' else 'posted' end,
         f.available, t.available
    from posting as p
    left join now_available as f on f.book_id = p.book_id and f.account = p.from_account
    left join now_available as t on t.book_id = p.book_id and t.account = p.to_account;
end
$$;

-- Moves value: the only place that does. Takes one posting or a thousand; each is posted or refused by itself.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: insufficient_funds, as an outcome: the account would fall below its floor, holds counted as gone.
--
-- Postings of a set are taken in order of arrival. A book in which one does not fit is posted one by one, because
-- what is refused leaves room for what comes after it.

create or replace function ledger.post(p_postings ledger.posting[])
returns setof ledger.posted
language plpgsql volatile
set search_path = ''
as $$
declare
  v_short int[];   -- the positions that do not fit, everything before them counted
  v_single uuid[]; -- the books to be posted one by one
begin
  with posting as (
    select p.*, p.position::int as place
      from unnest(p_postings) with ordinality as p(
             transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
  ), leg as (
    select p.place, p.book_id, p.from_account as account, -p.amount as delta from posting as p
    union all
    select p.place, p.book_id, p.to_account, p.amount from posting as p
  ), locked as materialized (
    select a.book_id, a.account, a.balance - a.held - a.floor as room
      from ledger.accounts as a
     where (a.book_id, a.account) in (select l.book_id, l.account from leg as l)
     order by a.book_id, a.account
       for update
  ), running as (
    select l.place, l.book_id, l.delta,
           coalesce(k.room, -c.floor) + sum(l.delta) over (
             partition by l.book_id, l.account order by l.place, l.delta desc) as room
      from leg as l
      join ledger.chart_of_accounts as c on c.account = l.account and c.floor is not null
      left join locked as k on k.book_id = l.book_id and k.account = l.account
  )
  select array_agg(distinct r.place), array_agg(distinct r.book_id)
    into v_short, v_single
    from running as r
   where r.room < 0 and r.delta < 0;

  if v_short is not null and cardinality(p_postings) > 1 then
    return query
      select p.position::int, o.transfer_id, o.outcome, o.from_available, o.to_available
        from unnest(p_postings) with ordinality as p(
               transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
       cross join lateral ledger.post(array[row(p.transfer_id, p.book_id, p.from_account, p.to_account, p.amount,
               p.kind, p.source_type, p.source_id, p.effective_at)::ledger.posting]) as o
       where p.book_id = any (v_single)
       order by p.position;
  end if;

  return query
  with posting as materialized (
    -- No asset, and so an error, where the two accounts are not of one asset or not in the chart.
    select p.*, p.position::int as place, case when f.asset = o.asset then f.asset end as asset,
           t.transfer_id is not null as replayed,
           t.transfer_id is null and not p.position::int = any (coalesce(v_short, '{}')) as fits
      from unnest(p_postings) with ordinality as p(
             transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
      left join ledger.chart_of_accounts as f on f.account = p.from_account
      left join ledger.chart_of_accounts as o on o.account = p.to_account
      left join ledger.transfers as t on t.book_id = p.book_id and t.transfer_id = p.transfer_id
     where v_short is null or cardinality(p_postings) = 1 or not p.book_id = any (v_single)
  ), written as (
    insert into ledger.transfers as t (
           transfer_id, book_id, from_account, to_account, asset, amount, kind, source_type, source_id, effective_at)
    select p.transfer_id, p.book_id, p.from_account, p.to_account, p.asset, p.amount, p.kind,
           p.source_type, p.source_id, coalesce(p.effective_at, internal.clock())
      from posting as p
     where p.fits
  ), leg as (
    select p.book_id, p.from_account as account, -p.amount as delta from posting as p where p.fits
    union all
    select p.book_id, p.to_account, p.amount from posting as p where p.fits
  ), moved as (
    select l.book_id, l.account, c.asset, c.floor, sum(l.delta)::bigint as delta
      from leg as l
      join ledger.chart_of_accounts as c on c.account = l.account and c.floor is not null
     group by l.book_id, l.account, c.asset, c.floor
  ), changed as (
    update ledger.accounts as a
       set balance = a.balance + m.delta, updated_at = internal.clock()
      from moved as m
     where a.book_id = m.book_id and a.account = m.account
    returning a.book_id, a.account, a.balance - a.held as available
  ), opened as (
    insert into ledger.accounts as a (book_id, account, asset, balance, floor)
    select m.book_id, m.account, m.asset, m.delta, m.floor
      from moved as m
     where not exists (select from changed as c where c.book_id = m.book_id and c.account = m.account)
     order by m.book_id, m.account
    on conflict (book_id, account) do update
       set balance = a.balance + excluded.balance, updated_at = internal.clock()
    returning a.book_id, a.account, a.balance - a.held as available
  ), now_available as (
    select * from changed union all select * from opened
  )
  select p.place, p.transfer_id,
         case when p.replayed then 'replayed' when p.fits then 'posted' else 'insufficient_funds' end,
         f.available, t.available
    from posting as p
    left join now_available as f on f.book_id = p.book_id and f.account = p.from_account
    left join now_available as t on t.book_id = p.book_id and t.account = p.to_account
   order by p.place;
end
$$;

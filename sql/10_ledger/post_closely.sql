-- Posts a set in which not everything fits as it comes, or of which something is in the book already. What comes in on the way
-- may pay for what goes out after it, so every account is followed through the set. A book in which something does not fit is
-- posted one by one, because what is refused leaves room for what comes after it; all others are posted as a set.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: insufficient_funds, as an outcome.

create or replace function ledger.post_closely(p_postings ledger.posting[])
returns ledger.posted[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_ways text[];  -- how each is posted: 'in a set', 'by itself', or not at all: 'replayed'
  v_set ledger.posted[];
  v_taken int := 0;
  v_one ledger.posted;
  v_posted ledger.posted[];
begin
  perform from (
      select distinct p.book_id, l.account
        from unnest(p_postings) as p
       cross join lateral (values (p.from_account), (p.to_account)) as l(account)
       order by p.book_id, l.account) as l
   cross join lateral (
         select from ledger.accounts as a where a.book_id = l.book_id and a.account = l.account for update) as a;

  with posting as materialized (
    select p.*, t.transfer_id is not null as replayed, lag(true) over (partition by p.book_id, p.transfer_id order by p.position) as again
      from unnest(p_postings) with ordinality as p(
             transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
      left join lateral (
           select x.transfer_id from ledger.transfers as x
            where x.book_id = p.book_id and x.transfer_id = p.transfer_id limit 1) as t on true
  ), running as (
    select p.book_id, l.account, c.floor, l.delta,
           sum(l.delta) over (partition by p.book_id, l.account order by p.position) as moved
      from posting as p
     cross join lateral (values (p.from_account, -p.amount), (p.to_account, p.amount)) as l(account, delta)
      join ledger.chart_of_accounts as c on c.account = split_part(l.account, ':', 1) and c.floor is not null
     where not p.replayed and p.again is null
  ), lowest as (
    select r.book_id, r.account, r.floor, min(r.moved) filter (where r.delta < 0) as moved
      from running as r
     group by r.book_id, r.account, r.floor
  ), crowded as materialized (
    select distinct l.book_id
      from lowest as l
      left join lateral (
           select a.balance - a.held - a.floor as room
             from ledger.accounts as a
            where a.book_id = l.book_id and a.account = l.account limit 1) as a on true
     where coalesce(a.room, -l.floor) + l.moved < 0
  )
  select array_agg(case when c.book_id is not null then 'by itself' when p.replayed or p.again then 'replayed' else 'in a set' end
                   order by p.position)
    into v_ways
    from posting as p
    left join crowded as c on c.book_id = p.book_id;

  v_set := ledger.post_set(array(
    select p_postings[w.place] from unnest(v_ways) with ordinality as w(way, place) where w.way = 'in a set' order by w.place), true);

  for v_place in 1 .. cardinality(p_postings) loop
    if v_ways[v_place] = 'by itself' then
      v_one := ledger.post_one(p_postings[v_place]);
    elsif v_ways[v_place] = 'replayed' then
      v_one := row(null, (p_postings[v_place]).transfer_id, 'replayed', null, null);
    else
      v_taken := v_taken + 1;
      v_one := v_set[v_taken];
    end if;
    v_one.position := v_place;
    v_posted[v_place] := v_one;
  end loop;

  -- Everybody is told what an account holds after the whole set.
  return array(
    select row(o.position, o.transfer_id, o.outcome,
               case when o.outcome = 'posted' then f.available end, case when o.outcome = 'posted' then t.available end)::ledger.posted
      from unnest(v_posted) as o
      left join lateral (
           select a.balance - a.held as available from ledger.accounts as a
            where a.book_id = p_postings[o.position].book_id and a.account = p_postings[o.position].from_account limit 1) as f on true
      left join lateral (
           select a.balance - a.held as available from ledger.accounts as a
            where a.book_id = p_postings[o.position].book_id and a.account = p_postings[o.position].to_account limit 1) as t on true
     order by o.position);
end
$$;

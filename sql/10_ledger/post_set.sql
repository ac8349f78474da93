-- Writes a set of postings as one statement: all of them, or none. What ledger.post tries first, since nearly always nothing of a
-- set is in the book and everything fits.
--
-- The accounts hold what leaves them before anything of the set comes in, so that no order could make one fall below its floor.
-- Where that was looked at otherwise, p_is_known_to_fit says so.
--
-- Replay:  none: it fails with a unique violation where a transfer is in the book.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: nothing: it fails with a check violation where an account does not hold what leaves it.

create or replace function ledger.post_set(p_postings ledger.posting[], p_is_known_to_fit boolean)
returns ledger.posted[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_posted ledger.posted[];
  v_fits boolean;
begin
  with posting as materialized (
    -- No asset, and so an error, where the two accounts are not of one asset or not in the chart.
    select p.*, case when f.asset = o.asset then f.asset end as asset, f.floor as from_floor, o.floor as to_floor
      from unnest(p_postings) with ordinality as p(
             transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
      left join ledger.chart_of_accounts as f on f.account = split_part(p.from_account, ':', 1)
      left join ledger.chart_of_accounts as o on o.account = split_part(p.to_account, ':', 1)
  ), written as (
    insert into ledger.transfers as t (
           transfer_id, book_id, from_account, to_account, asset, amount, kind, source_type, source_id, effective_at, recorded_at)
    select p.transfer_id, p.book_id, p.from_account, p.to_account, p.asset, p.amount, p.kind,
           p.source_type, p.source_id, coalesce(p.effective_at, v_now), v_now
      from posting as p
  ), moved as (
    select p.book_id, l.account, p.asset, l.floor, sum(l.delta)::bigint as delta, sum(greatest(-l.delta, 0))::bigint as outflow
      from posting as p
     cross join lateral (values (p.from_account, -p.amount, p.from_floor), (p.to_account, p.amount, p.to_floor)) as l(account, delta, floor)
     -- The table refuses what is not above zero; here it says how few these are, so that accounts are looked up and not walked through.
     where l.floor is not null and p.amount > 0
     group by p.book_id, l.account, p.asset, l.floor
     order by p.book_id, l.account
  ), changed as (
    update ledger.accounts as a
       set balance = a.balance + m.delta, updated_at = v_now
      from moved as m
     where a.book_id = m.book_id and a.account = m.account
    returning a.book_id, a.account, a.balance - a.held as available, a.balance - m.delta - a.held - a.floor >= m.outflow as fits
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
    select c.book_id, c.account, c.available, c.fits from changed as c
     union all
    select o.book_id, o.account, o.available, m.outflow <= -m.floor
      from opened as o
      join moved as m on m.book_id = o.book_id and m.account = o.account
  )
  select array_agg(row(p.position, p.transfer_id, 'posted', f.available, t.available)::ledger.posted order by p.position),
         coalesce(bool_and(f.fits), true)
    into v_posted, v_fits
    from posting as p
    left join now_available as f on f.book_id = p.book_id and f.account = p.from_account
    left join now_available as t on t.book_id = p.book_id and t.account = p.to_account;

  if not v_fits and not p_is_known_to_fit then
    raise check_violation using message = 'an account does not hold what leaves it';
  end if;
  return v_posted;
end
$$;

-- Posts one posting by itself: what ledger.post does with a set of one, and with a book in which not everything fits.
-- A few short statements cost less than the one that handles sets.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of their names.
-- Refuses: insufficient_funds, as an outcome.

create or replace function ledger.post_one(p_posting ledger.posting)
returns ledger.posted
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_asset text;
  v_from_floor bigint;
  v_to_floor bigint;
  v_posted ledger.posted;
begin
  v_posted.position := 1;
  v_posted.transfer_id := p_posting.transfer_id;

  -- No asset, and so an error, where the two accounts are not of one asset or not in the chart.
  select case when f.asset = o.asset then f.asset end, f.floor, o.floor
    into v_asset, v_from_floor, v_to_floor
    from ledger.chart_of_accounts as f
    join ledger.chart_of_accounts as o on o.account = split_part(p_posting.to_account, ':', 1)
   where f.account = split_part(p_posting.from_account, ':', 1);

  perform from ledger.accounts as a
    where a.book_id = p_posting.book_id and a.account in (p_posting.from_account, p_posting.to_account)
    order by a.account
      for update;

  perform from ledger.transfers as t where t.book_id = p_posting.book_id and t.transfer_id = p_posting.transfer_id;
  if found then
    v_posted.outcome := 'replayed';
    return v_posted;
  end if;

  if v_from_floor is not null then
    update ledger.accounts as a
       set balance = a.balance - p_posting.amount, updated_at = v_now
     where a.book_id = p_posting.book_id and a.account = p_posting.from_account
       and a.balance - a.held - p_posting.amount >= a.floor
    returning a.balance - a.held into v_posted.from_available;
    -- An account with credit may be opened by what it spends.
    if not found and p_posting.amount <= -v_from_floor then
      insert into ledger.accounts as a (book_id, account, asset, balance, floor, updated_at)
      values (p_posting.book_id, p_posting.from_account, v_asset, -p_posting.amount, v_from_floor, v_now)
      on conflict (book_id, account) do nothing
      returning a.balance - a.held into v_posted.from_available;
    end if;
    if v_posted.from_available is null then
      v_posted.outcome := 'insufficient_funds';
      return v_posted;
    end if;
  end if;

  insert into ledger.transfers as t (
         transfer_id, book_id, from_account, to_account, asset, amount, kind, source_type, source_id, effective_at,
         recorded_at)
  values (p_posting.transfer_id, p_posting.book_id, p_posting.from_account, p_posting.to_account, v_asset, p_posting.amount,
         p_posting.kind, p_posting.source_type, p_posting.source_id, coalesce(p_posting.effective_at, v_now),
         v_now);

  if v_to_floor is not null then
    insert into ledger.accounts as a (book_id, account, asset, balance, floor, updated_at)
    values (p_posting.book_id, p_posting.to_account, v_asset, p_posting.amount, v_to_floor, v_now)
    on conflict (book_id, account) do update
       set balance = a.balance + excluded.balance, updated_at = v_now
    returning a.balance - a.held into v_posted.to_available;
  end if;

  v_posted.outcome := 'posted';
  return v_posted;
end
$$;

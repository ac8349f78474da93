-- Sets amounts aside in many books at once, one hold a book, for whoever has locked the accounts and seen that all of them
-- fit: ledger.hold without the questions. Of each hold it takes the book, the id, the account, the amount, the source and
-- when it expires.
--
-- Replay:  none by itself: a hold that exists already is an error.
-- Locks:   none of its own: the caller holds the accounts' (ledger.lock).
-- Refuses: nothing; that one does not fit is an error.

create or replace function ledger.hold_many(p_holds ledger.holds[])
returns int
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_held int;
begin
  with held as (
    update ledger.accounts as a
       set held = a.held + h.amount, updated_at = v_now
      from unnest(p_holds) as h
     where a.book_id = h.book_id and a.account = h.account and a.balance - a.held - h.amount >= a.floor
    returning h.book_id, h.hold_id, h.account, h.amount, h.source_type, h.source_id, h.expires_at
  ), stored as (
    insert into ledger.holds (book_id, hold_id, account, amount, source_type, source_id, expires_at, created_at)
    select h.book_id, h.hold_id, h.account, h.amount, h.source_type, h.source_id, h.expires_at, v_now from held as h
  )
  select count(*) into v_held from held;
  if v_held <> cardinality(p_holds) then
    raise exception '% of % holds fitted', v_held, cardinality(p_holds);
  end if;
  return v_held;
end
$$;

-- Locks one account of many books, in the order in which everything locks them, and says what each can spend.
-- A procedure that must decide before it posts (a limit per user, a price against a balance) decides under this lock.
-- A book that has no such account yet has nothing to spend and no row.

create or replace function ledger.lock(p_book_ids uuid[], p_account text)
returns table (book_id uuid, available bigint)
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return query
    select a.book_id, a.balance - a.held - a.floor
      from ledger.accounts as a
     where a.book_id = any (p_book_ids) and a.account = p_account
     order by a.book_id, a.account
       for update;
end
$$;

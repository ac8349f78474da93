-- Makes an account that nothing was posted to yet, so that it can be locked in its place in the order. Whoever then has to
-- have it before others comes here first, holding none that come after it.
--
-- Replay:  an account that is there stays as it is.
-- Locks:   the new account; who opens the same waits.
-- Refuses: nothing.

create or replace function ledger.open(p_book_id uuid, p_account text)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into ledger.accounts (book_id, account, asset, floor, updated_at)
  select p_book_id, p_account, c.asset, c.floor, internal.clock()
    from ledger.chart_of_accounts as c where c.account = split_part(p_account, ':', 1) and c.floor is not null
  on conflict (book_id, account) do nothing;
end
$$;

-- Says how far an account may fall: to nothing, as the chart has it, or further where its owner may owe. An account that is
-- not there yet is opened, so that the floor waits for what comes.
--
-- Replay:  the same floor again changes nothing.
-- Locks:   the account.
-- Refuses: insufficient_funds, when what can be spent lies below the floor already.

create or replace function ledger.set_floor(p_book_id uuid, p_account text, p_floor bigint)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_account ledger.accounts;
begin
  insert into ledger.accounts (book_id, account, asset, floor, updated_at)
  select p_book_id, c.account, c.asset, c.floor, v_now
    from ledger.chart_of_accounts as c where c.account = p_account and c.floor is not null
  on conflict (book_id, account) do nothing;

  select a.* into v_account from ledger.accounts as a where a.book_id = p_book_id and a.account = p_account for update;
  if v_account.account is null then
    raise exception '% is no account that keeps a balance', p_account;
  end if;
  if v_account.balance - v_account.held < p_floor then
    perform internal.refuse('insufficient_funds', format('Available: %s, Required: %s', v_account.balance - v_account.held, p_floor));
  end if;

  update ledger.accounts as a
     set floor = p_floor, updated_at = v_now
   where a.book_id = p_book_id and a.account = p_account and a.floor <> p_floor;
end
$$;

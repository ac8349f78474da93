-- Sets an amount aside, until it is settled, released or expires. Held value stays in the balance and cannot be spent.
--
-- Replay:  a hold id that exists already is answered with that hold as it stands; nothing is held twice.
-- Locks:   the account.
-- Refuses: invalid_amount, hold_reused, insufficient_funds.

create or replace function ledger.hold(
  p_book_id     uuid,
  p_hold_id     uuid,
  p_account     text,
  p_amount      bigint,
  p_source_type text,
  p_source_id   uuid,
  p_expires_at  timestamptz
)
returns ledger.holds
language plpgsql volatile
set search_path = ''
as $$
declare
  v_available bigint;
  v_hold ledger.holds;
begin
  if p_amount is null or p_amount <= 0 then
    perform internal.refuse('invalid_amount', format('%s cannot be held', p_amount));
  end if;

  select l.available into v_available from ledger.lock(array[p_book_id], p_account) as l;

  select h.* into v_hold from ledger.holds as h where h.book_id = p_book_id and h.hold_id = p_hold_id;
  if found then
    if (v_hold.account, v_hold.amount) is distinct from (p_account, p_amount) then
      perform internal.refuse('hold_reused', format('hold %s is of %s in %s', p_hold_id, v_hold.amount, v_hold.account));
    end if;
    return v_hold;
  end if;

  update ledger.accounts as a
     set held = a.held + p_amount, updated_at = internal.clock()
   where a.book_id = p_book_id and a.account = p_account and a.balance - a.held - p_amount >= a.floor;
  if not found then
    perform internal.refuse('insufficient_funds', format('Available: %s, Required: %s', coalesce(v_available, 0), p_amount));
  end if;

  insert into ledger.holds as h (book_id, hold_id, account, amount, source_type, source_id, expires_at)
  values (p_book_id, p_hold_id, p_account, p_amount, p_source_type, p_source_id, p_expires_at)
  returning h.* into v_hold;
  return v_hold;
end
$$;

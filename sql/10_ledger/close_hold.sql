-- Ends a hold, whichever way: takes the row, frees what it set aside. Settling, releasing and expiring all come here,
-- so that of two that race exactly one finds the hold open.
--
-- Replay:  none by itself; the second to come is refused.
-- Locks:   the account, then the hold.
-- Refuses: hold_not_found, hold_closed.

create or replace function ledger.close_hold(p_book_id uuid, p_hold_id uuid, p_status text, p_settled bigint default 0)
returns ledger.holds
language plpgsql volatile
set search_path = ''
as $$
declare
  v_hold ledger.holds;
begin
  select h.* into v_hold from ledger.holds as h where h.book_id = p_book_id and h.hold_id = p_hold_id;
  if not found then
    perform internal.refuse('hold_not_found', format('hold %s', p_hold_id));
  end if;
  perform ledger.lock(array[p_book_id], v_hold.account);

  update ledger.holds as h
     set status = p_status, settled = p_settled, closed_at = internal.clock()
   where h.book_id = p_book_id and h.hold_id = p_hold_id and h.status = 'held'
  returning h.* into v_hold;
  if not found then
    perform internal.refuse('hold_closed', format('hold %s', p_hold_id));
  end if;

  update ledger.accounts as a
     set held = a.held - v_hold.amount, updated_at = internal.clock()
   where a.book_id = p_book_id and a.account = v_hold.account;
  return v_hold;
end
$$;

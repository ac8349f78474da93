-- Gives a hold back.
--
-- Replay:  a hold that was released already is answered as it stands.
-- Locks:   the account, then the hold.
-- Refuses: hold_not_found, hold_closed.

create or replace function ledger.release(p_book_id uuid, p_hold_id uuid)
returns ledger.holds
language plpgsql volatile
set search_path = ''
as $$
declare
  v_hold ledger.holds;
begin
  -- Whoever is ending this hold has done so before it is read: of two releases the second finds the first.
  perform ledger.lock(array[h.book_id], h.account)
     from ledger.holds as h
    where h.book_id = p_book_id and h.hold_id = p_hold_id;

  select h.* into v_hold
    from ledger.holds as h
   where h.book_id = p_book_id and h.hold_id = p_hold_id and h.status = 'released';
  if found then
    return v_hold;
  end if;
  return ledger.close_hold(p_book_id, p_hold_id, 'released');
end
$$;

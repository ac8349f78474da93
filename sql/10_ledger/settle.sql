-- Spends a hold, whole or in part; what is not settled becomes available again.
--
-- Replay:  a hold settled already with this amount is answered as 'replayed'.
-- Locks:   the account, then the hold.
-- Refuses: invalid_amount, hold_not_found, hold_exceeded, hold_closed.

create or replace function ledger.settle(
  p_book_id    uuid,
  p_hold_id    uuid,
  p_to_account text,
  p_amount     bigint,
  p_kind       text
)
returns ledger.posted
language plpgsql volatile
set search_path = ''
as $$
declare
  v_hold ledger.holds;
  v_posted ledger.posted;
begin
  if p_amount is null or p_amount <= 0 then
    perform internal.refuse('invalid_amount', format('%s cannot be settled', p_amount));
  end if;

  -- Whoever is ending this hold has done so before it is read: of two equal settlements the second finds the first.
  perform ledger.lock(array[h.book_id], h.account)
     from ledger.holds as h
    where h.book_id = p_book_id and h.hold_id = p_hold_id;

  select h.* into v_hold from ledger.holds as h where h.book_id = p_book_id and h.hold_id = p_hold_id;
  if p_amount > v_hold.amount then
    perform internal.refuse('hold_exceeded', format('Held: %s, Required: %s', v_hold.amount, p_amount));
  end if;

  -- The transfer is named by its hold, so a settlement that is repeated finds it in the book.
  if v_hold.status is distinct from 'settled' or v_hold.settled is distinct from p_amount then
    v_hold := ledger.close_hold(p_book_id, p_hold_id, 'settled', p_amount);
  end if;

  select p.* into v_posted
    from ledger.post(array[row(p_hold_id, p_book_id, v_hold.account, p_to_account, p_amount, p_kind,
           v_hold.source_type, v_hold.source_id, null)::ledger.posting]) as p;
  return v_posted;
end
$$;

-- How a reservation stands: 'held', 'settled', 'released' or 'expired'. What it is asked of has one answer only: the ledger's
-- hold, where something is held. A reservation of nothing has no hold: its transaction tells that it was settled, released_at
-- that it was released, and the clock that its time is up. Whoever decides by it holds internal.lock_credits.
-- A hold whose time is up is held until upkeep has taken it back: until then it can be settled.

create or replace function internal.credit_reservation_status(p_reservation public.credit_reservations)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  if p_reservation.amount > 0 then
    return (select h.status from ledger.holds as h where h.book_id = p_reservation.user_id and h.hold_id = p_reservation.id);
  end if;
  return case
    when exists (select from public.credit_transactions as t where t.user_id = p_reservation.user_id and t.id = p_reservation.id)
      then 'settled'
    when p_reservation.released_at is not null then 'released'
    when p_reservation.expires_at <= internal.clock() then 'expired'
    else 'held' end;
end
$$;

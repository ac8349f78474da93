-- How a reservation stands: 'held', 'settled', 'released' or 'expired'. What it is asked of has one answer only: the ledger's
-- hold, where something is held. A reservation of nothing has no hold: its transaction tells that it was settled, released_at
-- that it was released, and the clock that its time is up. Whoever decides by it holds internal.lock_credits.
-- A hold whose time is up is held until upkeep has taken it back: until then it can be settled.
--
-- p_hold: the status of the reservation's hold, if it has one. p_is_settled: whether its transaction is there.

create or replace function internal.credit_reservation_status(
  p_reservation public.credit_reservations, p_hold text, p_is_settled boolean)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return case
    when p_reservation.amount > 0 then p_hold
    when p_is_settled then 'settled'
    when p_reservation.released_at is not null then 'released'
    when p_reservation.expires_at <= internal.clock() then 'expired'
    else 'held' end;
end
$$;

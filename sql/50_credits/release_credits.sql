-- Gives back what was reserved for a call of a model that is not made.
-- p_by_user: it is asked with the user's own token.
--
-- Replay:  what was released already is answered as the first time, with "replayed".
-- Locks:   internal.lock_credits.
-- Refuses: reservation_not_found, forbidden, reservation_closed.

create or replace function public.release_credits(p_user_id uuid, p_reservation_id uuid, p_by_user boolean default false)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_reservation public.credit_reservations;
  v_status text;
begin
  perform internal.act_for(array[p_user_id]);
  perform internal.lock_credits(array[p_user_id]);

  select r.* into v_reservation from public.credit_reservations as r where r.user_id = p_user_id and r.id = p_reservation_id;
  if not found then
    perform internal.refuse('reservation_not_found', format('reservation_id: there is no reservation %s', p_reservation_id));
  end if;
  if p_by_user is not false and not v_reservation.by_user then
    perform internal.refuse('forbidden', 'Who reserved it releases it.');
  end if;

  v_status := internal.credit_reservation_status(v_reservation);
  if v_status not in ('held', 'released') then
    perform internal.refuse('reservation_closed', format('reservation_id: it was %s already', v_status));
  end if;
  if v_status = 'held' then
    if v_reservation.amount > 0 then
      perform ledger.close_hold(p_user_id, p_reservation_id, 'released');
      -- What it held of a lot that has ended meanwhile is not available again.
      perform internal.expire_credit_lots(array[p_user_id]);
    end if;
    update public.credit_reservations as r
       set released_at = case when r.amount = 0 then internal.clock() end,
           available_again = coalesce((
             select (a.balance - a.held) / 1000000.0 from ledger.accounts as a
              where a.book_id = p_user_id and a.account = 'credits'), 0)
     where r.user_id = p_user_id and r.id = p_reservation_id
    returning r.* into v_reservation;
  end if;

  return jsonb_build_object(
    'reservation_id', p_reservation_id, 'released', internal.credits_json(v_reservation.amount),
    'available', internal.credits_json(v_reservation.available_again),
    'account', internal.credit_account(p_user_id), 'replayed', v_status = 'released');
end
$$;

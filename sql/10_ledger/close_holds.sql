-- Ends many holds the same way at once, at most one a book, for whoever has locked the accounts and seen that all of them are
-- open: ledger.close_hold without the questions. Of each hold it takes the book, the id, and how much of it is settled.
--
-- Replay:  none by itself: a hold that is not open is an error.
-- Locks:   the holds; the caller holds the accounts' (ledger.lock).
-- Refuses: nothing.

create or replace function ledger.close_holds(p_holds ledger.holds[], p_status text)
returns int
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_freed int;
begin
  -- Not by the status, after which the planner would walk through everybody's open holds.
  with closed as (
    update ledger.holds as h
       set status = p_status, settled = coalesce(c.settled, 0), closed_at = v_now
      from unnest(p_holds) as c
     where h.book_id = c.book_id and h.hold_id = c.hold_id and h.closed_at is null
    returning h.book_id, h.account, h.amount
  ), freed as (
    update ledger.accounts as a
       set held = a.held - c.amount, updated_at = v_now
      from closed as c
     where a.book_id = c.book_id and a.account = c.account
    returning a.book_id
  )
  select count(*) into v_freed from freed;
  if v_freed <> cardinality(p_holds) then
    raise exception '% of % holds were open', v_freed, cardinality(p_holds);
  end if;
  return v_freed;
end
$$;

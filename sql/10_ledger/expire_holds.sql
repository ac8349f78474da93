-- Gives back the holds whose time is up, oldest first, at most p_limit of them; returns how many.
-- Two workers share the work: each locks only accounts that the other has not.
--
-- Replay:  an expired hold is not open any more; a second run finds others or none.
-- Locks:   the accounts, in the order of (book_id, account), skipping those that are taken; then the holds.

create or replace function ledger.expire_holds(p_limit int default 1000)
returns int
language plpgsql volatile
set search_path = ''
as $$
declare
  v_expired int;
begin
  with due as (
    select h.book_id, h.hold_id, h.account
      from ledger.holds as h
     where h.status = 'held' and h.expires_at <= internal.clock()
     order by h.expires_at
     limit p_limit
  ), locked as materialized (
    select a.book_id, a.account
      from ledger.accounts as a
     where (a.book_id, a.account) in (select d.book_id, d.account from due as d)
     order by a.book_id, a.account
       for update skip locked
  ), expired as (
    update ledger.holds as h
       set status = 'expired', closed_at = internal.clock()
      from due as d
      join locked as l on l.book_id = d.book_id and l.account = d.account
     where h.book_id = d.book_id and h.hold_id = d.hold_id and h.status = 'held'
    returning h.book_id, h.account, h.amount
  ), freed as (
    update ledger.accounts as a
       set held = a.held - e.amount, updated_at = internal.clock()
      from (select x.book_id, x.account, sum(x.amount) as amount from expired as x group by x.book_id, x.account) as e
     where a.book_id = e.book_id and a.account = e.account
  )
  select count(*) into v_expired from expired;
  return v_expired;
end
$$;

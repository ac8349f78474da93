-- Moves value: the only place that does. Takes one posting or a thousand; each is posted or refused by itself, and postings of a
-- set are taken in order of arrival. A set is written as if everything fitted and nothing were in the book, as it nearly always is;
-- where the book says no, what was written is undone and the set looked at closely.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: insufficient_funds, as an outcome: the account would fall below its floor, holds counted as gone.

create or replace function ledger.post(p_postings ledger.posting[])
returns setof ledger.posted
language plpgsql volatile
set search_path = ''
as $$
declare
  v_posted ledger.posted[];
begin
  if cardinality(p_postings) = 1 then
    return next ledger.post_one(p_postings[1]);
    return;
  end if;

  begin
    v_posted := ledger.post_set(p_postings, false);
  exception when check_violation or unique_violation then
    v_posted := ledger.post_closely(p_postings);
  end;
  return query select * from unnest(v_posted);
end
$$;

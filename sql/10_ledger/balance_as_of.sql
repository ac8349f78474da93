-- What an account held at a moment: transfers effective by then, as far as the book knew by p_known_at.
-- The two times answer two questions: what was true then, and what did we believe then.

create or replace function ledger.balance_as_of(
  p_book_id  uuid,
  p_account  text,
  p_as_of    timestamptz,
  p_known_at timestamptz default 'infinity'
)
returns bigint
language sql stable
set search_path = ''
as $$
  select coalesce(sum(case when t.to_account = p_account then t.amount else -t.amount end), 0)::bigint
    from ledger.transfers as t
   where t.book_id = p_book_id
     and p_account in (t.from_account, t.to_account)
     and t.effective_at <= p_as_of
     and t.recorded_at <= p_known_at
$$;

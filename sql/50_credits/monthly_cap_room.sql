-- How much more a user's usage may cost in this calendar month, in UTC: the cap less what was used and what is reserved.
-- Null where there is no cap. It never falls below nothing: a cap that was lowered takes nothing back.
--
-- Whoever decides by it holds internal.lock_credits, so that nobody spends the same room twice.

create or replace function internal.monthly_cap_room(p_user_id uuid)
returns numeric
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select greatest(0, c.monthly_cap - internal.month_spent(p_user_id) - coalesce((
             select a.held / 1000000.0 from ledger.accounts as a where a.book_id = p_user_id and a.account = 'credits'), 0))
      from public.user_credits as c
     where c.user_id = p_user_id and c.monthly_cap is not null);
end
$$;

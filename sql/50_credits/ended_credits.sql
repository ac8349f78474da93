-- How many of a user's credits belong to lots whose time is up, and are about to expire: what is reserved of them is not.

create or replace function internal.ended_credits(p_user_id uuid)
returns numeric
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return coalesce((
    select least(sum(g.remaining), min(a.available))
      from public.credit_grants as g
      join lateral (
           select greatest(0, x.balance - x.held) / 1000000.0 as available from ledger.accounts as x
            where x.book_id = p_user_id and x.account = 'credits' limit 1) as a on true
     where g.user_id = p_user_id and g.is_open and g.expires_at <= internal.clock()), 0);
end
$$;

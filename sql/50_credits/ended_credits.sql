-- How many of a user's credits belong to lots whose time is up, and are about to expire: what is reserved of them, or keeps
-- for another month, is not.

create or replace function internal.ended_credits(p_user_id uuid)
returns numeric
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return coalesce((select sum(l.loses) from internal.ended_credit_lots(array[p_user_id]) as l), 0);
end
$$;

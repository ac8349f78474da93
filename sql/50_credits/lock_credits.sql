-- Lets nobody else change these users' credits until the transaction ends: what every procedure does first that changes
-- any. The users' own locks come before the accounts', because who has no account yet has nothing else to wait at.
-- What is read afterwards, in a statement of its own, is as the one before left it.
--
-- Locks: an advisory lock for each user, in order; then their credits accounts, in order.

create or replace function internal.lock_credits(p_user_ids uuid[])
returns void
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  perform pg_advisory_xact_lock(l.key)
     from (select distinct hashtextextended(u.user_id::text, 50) as key from unnest(p_user_ids) as u(user_id) order by 1) as l;
  perform ledger.lock(p_user_ids, 'credits');
end
$$;

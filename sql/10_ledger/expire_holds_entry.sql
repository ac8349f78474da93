-- The way in to ledger.expire_holds for the worker, who has no right in the ledger; returns {"expired": n}.
--
-- Replay, Locks, Refuses: as ledger.expire_holds.

create or replace function public.expire_holds(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return jsonb_build_object('expired', ledger.expire_holds(p_limit));
end
$$;

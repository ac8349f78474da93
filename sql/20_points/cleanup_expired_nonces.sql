-- Forgets the nonces whose time is up, oldest first, at most p_limit of them; returns {"removed": n}.
-- The copy of a coupon's code that a replay shows goes with them. What a nonce caused stays known for ever: the event
-- keeps the hash of its payload, so the same submission is still answered as the first time.
--
-- Replay:  a nonce that is gone is not there; a second run finds others or none.
-- Locks:   the nonces, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.cleanup_expired_nonces(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_removed int;
begin
  with due as materialized (
    select n.user_id, n.nonce
      from public.used_nonces as n
     where n.expires_at <= internal.clock()
     order by n.expires_at
     limit p_limit
       for update skip locked
  )
  delete from public.used_nonces as n
   using due as d
   where n.user_id = d.user_id and n.nonce = d.nonce;
  get diagnostics v_removed = row_count;
  return jsonb_build_object('removed', v_removed);
end
$$;

-- Forgets the copies of coupon codes that no replay shows any more, a quarter of an hour after the first answer: oldest first, at most
-- p_limit of them; returns {"forgotten": n}. The nonces stay.
--
-- Replay:  a copy that is gone is not there; a second run finds others or none.
-- Locks:   the nonces, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.forget_sealed_codes(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_forgotten int;
begin
  with due as materialized (
    select n.user_id, n.nonce
      from public.used_nonces as n
     where n.sealed is not null and n.created_at <= internal.clock() - interval '15 minutes'
     order by n.created_at
     limit p_limit
       for update skip locked
  )
  update public.used_nonces as n
     set sealed = null
    from due as d
   where n.user_id = d.user_id and n.nonce = d.nonce;
  get diagnostics v_forgotten = row_count;
  return jsonb_build_object('forgotten', v_forgotten);
end
$$;

-- Forgets what was known of attestation tokens, oldest first, at most p_limit of them; returns {"removed": n}.
--
-- Replay:  what is gone is not there; a second run finds others or none.
-- Locks:   the entries, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.cleanup_expired_attestations(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_removed int;
begin
  with due as materialized (
    select a.attestation_token_hash
      from public.attestation_cache as a
     where a.expires_at <= internal.clock()
     order by a.expires_at
     limit p_limit
       for update skip locked
  )
  delete from public.attestation_cache as a
   using due as d
   where a.attestation_token_hash = d.attestation_token_hash;
  get diagnostics v_removed = row_count;
  return jsonb_build_object('removed', v_removed);
end
$$;

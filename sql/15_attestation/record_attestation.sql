-- Keeps what Google said of a token: p_verdict as it came, and whether it is one; null for both when there was no answer,
-- which ends the claim until p_until and no later one.
--
-- Replay:  the first verdict stays.
-- Locks:   the token's entry.
-- Refuses: nothing.

create or replace function public.record_attestation(p_token_hash text, p_until timestamptz, p_is_valid boolean default null, p_verdict jsonb default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  update public.attestation_cache as a
     set is_valid = p_is_valid, integrity_verdict = p_verdict, claimed_until = null
   where a.attestation_token_hash = p_token_hash and a.is_valid is null
     and (p_is_valid is not null or a.claimed_until = p_until);
  return jsonb_build_object('recorded', found);
end
$$;

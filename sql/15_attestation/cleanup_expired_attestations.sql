-- Forgets what was known of attestation tokens and the challenges nobody can answer any more, oldest first, at most p_limit
-- of each, after an hour the tokens that nobody checked again, and after 90 days what failed and how often Google was
-- asked; returns {"removed": n}.
--
-- Replay:  what is gone is not there; a second run finds others or none.
-- Locks:   the entries, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.cleanup_expired_attestations(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tokens int;
  v_challenges int;
begin
  with due as materialized (
    select a.attestation_token_hash
      from public.attestation_cache as a
     where a.expires_at <= v_now
     order by a.expires_at
     limit p_limit
       for update skip locked
  )
  delete from public.attestation_cache as a
   using due as d
   where a.attestation_token_hash = d.attestation_token_hash;
  get diagnostics v_tokens = row_count;

  with due as materialized (
    select c.user_id, c.challenge_hash
      from public.attestation_challenges as c
     where c.expires_at <= v_now
     order by c.expires_at
     limit p_limit
       for update skip locked
  )
  delete from public.attestation_challenges as c
   using due as d
   where c.user_id = d.user_id and c.challenge_hash = d.challenge_hash;
  get diagnostics v_challenges = row_count;

  -- No token is as old; where a worker checks again, it has given them up already.
  delete from public.attestation_rechecks as r where r.due_at <= v_now and r.received_at <= v_now - interval '1 hour';
  delete from public.attestation_failures as f where f.hour < v_now - interval '90 days';
  delete from public.attestation_decodes as d where d.day < (v_now at time zone 'UTC')::date - 90;
  return jsonb_build_object('removed', greatest(v_tokens, v_challenges));
end
$$;

-- Asks a device something new: 32 bytes that nobody can guess, in URL-safe base64 without padding. The device answers with
-- them; here only their SHA-256 is kept.
--
-- Replay:  none: a lost challenge is replaced by another one.
-- Locks:   the user against other challenges of theirs.
-- Refuses: rate_limited.

create or replace function public.create_attestation_challenge(p_user_id uuid, p_purpose text, p_platform text)
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
  v_open int;
  v_oldest timestamptz;
  v_bytes bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));  -- of 244 random bits
  v_challenge public.attestation_challenges;
begin
  perform internal.act_for(array[p_user_id]);
  perform pg_advisory_xact_lock(hashtextextended(p_user_id::text, 15));
  select count(*), min(c.expires_at) into v_open, v_oldest
    from public.attestation_challenges as c
   where c.user_id = p_user_id and c.request_hash is null and c.expires_at > v_now;
  if v_open >= 100 then
    perform internal.refuse('rate_limited', format('open_challenges: 100 in 300 s; again in %s s', ceil(extract(epoch from v_oldest - v_now))));
  end if;

  insert into public.attestation_challenges as c (user_id, challenge_hash, purpose, platform, created_at, expires_at)
  values (p_user_id, encode(sha256(v_bytes), 'hex'), p_purpose, p_platform, v_now, v_now + interval '5 minutes')
  returning c.* into v_challenge;
  return jsonb_build_object(
    'challenge_id', v_challenge.challenge_id, 'challenge', rtrim(translate(encode(v_bytes, 'base64'), '+/', '-_'), '='),
    'expires_at', v_challenge.expires_at);
end
$$;

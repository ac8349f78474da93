-- Who may ask Google what a token says: one at a time, once a token, and no more often a day than p_budget. Answers the
-- state: 'claimed' (ask, then record_attestation with "until"), 'known' (with the verdict), 'busy' (somebody asks just now),
-- 'spent' (the day's budget). "decodes" counts the day's, and "alert" is true for the one that reaches 80 % of the budget.
--
-- The budget is everybody's, so nobody uses it up alone: a token counts for nothing without an open challenge of its user
-- ('challenge'), or from whom 20 were refused within the hour ('failing'). A worker, who checks what was accepted already,
-- names no user.
--
-- Replay:  a known token is known for an hour, longer than any token is fresh.
-- Locks:   the token's entry, then the day's count.
-- Refuses: nothing.

create or replace function public.claim_attestation(
  p_user_id        uuid,
  p_token_hash     text,
  p_budget         int,
  p_challenge_hash text default null,
  p_request_hash   text default null
)
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
  v_known public.attestation_cache;
  v_decodes int;
begin
  select a.* into v_known from public.attestation_cache as a where a.attestation_token_hash = p_token_hash for update;
  if v_known.is_valid is not null then
    return jsonb_build_object('state', 'known', 'is_valid', v_known.is_valid, 'verdict', v_known.integrity_verdict);
  elsif v_known.claimed_until > v_now then
    return jsonb_build_object('state', 'busy');
  elsif p_user_id is not null and not exists (
          select from public.attestation_challenges as c
           where c.user_id = p_user_id and c.challenge_hash = p_challenge_hash and c.purpose = 'submit' and c.platform = 'android'
             and (c.request_hash is null and c.expires_at > v_now or c.request_hash = p_request_hash)) then
    return jsonb_build_object('state', 'challenge');
  elsif (select sum(f.failures) from public.attestation_failures as f
          where f.user_id = p_user_id and f.hour >= date_trunc('hour', v_now - interval '1 hour')) >= 20 then
    return jsonb_build_object('state', 'failing');
  end if;

  insert into public.attestation_cache as a (attestation_token_hash, platform, claimed_until, created_at, expires_at)
  values (p_token_hash, 'android', v_now + interval '10 seconds', v_now, v_now + interval '1 hour')
  on conflict (attestation_token_hash) do update
     set claimed_until = excluded.claimed_until
   where a.is_valid is null and (a.claimed_until is null or a.claimed_until <= v_now);
  if not found then
    return jsonb_build_object('state', 'busy');  -- somebody was as fast
  end if;

  insert into public.attestation_decodes as d (day, decodes) select (v_now at time zone 'UTC')::date, 1 where p_budget > 0
  on conflict (day) do update set decodes = d.decodes + 1 where d.decodes < p_budget
  returning d.decodes into v_decodes;
  if v_decodes is null then
    update public.attestation_cache as a set claimed_until = null where a.attestation_token_hash = p_token_hash;
    return jsonb_build_object('state', 'spent');
  end if;
  return jsonb_build_object('state', 'claimed', 'until', v_now + interval '10 seconds', 'decodes', v_decodes, 'alert', v_decodes = ceil(p_budget * 0.8));
end
$$;

-- Consumes what verified evidence may be used for once: its challenge, and the number its device counted for it. Answers
-- the position and the reason of each claim that is refused; those are written down.
--
-- What is bound to one request is good for that request alone, so the very same bytes may come again: whatever they cause
-- has its own key. A device that signed them twice may be heard the wrong way round; its number never goes down.
--
-- Locks:   challenges by user, then device keys by id, then new rows of both.
-- Refuses: nothing: a refusal that is raised would take back what was consumed and what was written down.

create or replace function internal.settle_attestations(p_claims internal.attestation_claim[])
returns table ("position" int, reason text)
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_refused int[];
  v_reasons text[];
begin
  with claim as materialized (
    select c."position", c.user_id, c.purpose, (c.evidence).* from unnest(p_claims) as c
  ), challenged as (
    update public.attestation_challenges as a
       set request_hash = c.request_hash
      from (select x.* from claim as x where x.status in ('verified', 'unavailable') order by x.user_id) as c
     where a.user_id = c.user_id and a.challenge_hash = c.challenge_hash and a.purpose = c.purpose and a.platform = c.platform
       and c.request_hash is not null and (a.request_hash is null and a.expires_at > v_now or a.request_hash = c.request_hash)
    returning a.user_id
  ), held as materialized (
    select k.key_id, k.sign_count, k.request_hash
      from public.device_keys as k
     where k.key_id in (select c.key_id from claim as c where c.key_id is not null) and k.revoked_at is null
     order by k.key_id
       for update
  ), judged as materialized (
    select c.*,
           case
             when c.status = 'failed' then c.reason
             when h.user_id is null then 'challenge_not_valid'
             when c.platform = 'ios' and k.key_id is null then 'unknown_key'
             when c.platform = 'ios' and c.sign_count <= k.sign_count and c.request_hash is distinct from k.request_hash then 'counter_not_greater'
           end as refused
      from claim as c
      left join challenged as h on h.user_id = c.user_id
      left join held as k on k.key_id = c.key_id
     where c.status in ('verified', 'unavailable', 'failed')
  ), settled as materialized (
    -- Of two that are good for themselves and bear one number in one set, the first counts.
    select j."position", j.user_id, j.platform, j.request_hash, j.key_id, j.sign_count,
           case
             when j.refused is not null then j.refused
             when j.platform = 'ios' and row_number() over (
                    partition by j.key_id, j.sign_count, j.refused is null order by j."position") > 1 then 'counter_not_greater'
           end as refused
      from judged as j
  ), counted as (
    update public.device_keys as k
       set sign_count = greatest(k.sign_count, n.sign_count), request_hash = n.request_hash, last_used_at = v_now
      from (select distinct on (j.key_id) j.key_id, j.sign_count, j.request_hash
              from settled as j
             where j.refused is null and j.platform = 'ios'
             order by j.key_id, j.sign_count desc) as n
     where k.key_id = n.key_id
  ), shared as (
    insert into public.device_key_users as u (key_id, user_id, first_seen_at)
    select j.key_id, j.user_id, v_now from settled as j where j.refused is null and j.platform = 'ios' order by j.key_id, j.user_id
    on conflict (key_id, user_id) do nothing
  )
  select array_agg(j."position" order by j."position"), array_agg(j.refused order by j."position") into v_refused, v_reasons
    from settled as j
   where j.refused is not null;

  for v_number in 1 .. coalesce(cardinality(v_refused), 0) loop
    perform internal.fail_attestation(c, v_reasons[v_number]) from unnest(p_claims) as c where c."position" = v_refused[v_number];
    "position" := v_refused[v_number];
    reason := v_reasons[v_number];
    return next;
  end loop;
end
$$;

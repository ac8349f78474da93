-- Recognizes people for a set of requests, with points or without. One account pays a whole recognition: a lead's own budget, else
-- the company's pool, and where the tenant falls back to what there was of old, the department's budget and then the giver's
-- wallet. An employee gives from their own wallet where members may give to one another. Requests of one tenant are decided in
-- order of arrival.
--
-- Replay:  the same request under the same key is answered as the first time, with "replayed", for ever. Without a key each is new.
-- Locks:   internal.fund_recognitions; then the rows it writes.
-- Refuses: what they say of one request: invalid_body, invalid_amount, nonce_reused, forbidden, tenant_not_found,
--          recipient_not_found, self_recognition, peer_to_peer_off, department_cap_reached, insufficient_pool, insufficient_wallet.

create or replace function internal.recognize(p_requests internal.recognition_request[])
returns setof internal.recognition_given
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_asks internal.recognition_ask[] := internal.fund_recognitions(internal.ask_recognitions(p_requests));
  v_moves internal.tenant_movement[];
  v_balances numeric[];
  v_is_posted boolean;
  v_answered int;
begin
  v_moves := array(
    select row(a.tenant_id, r.entry_id, a.source, 'tenant.wallet:' || r.user_id, r.share, 'recognition', 'recognition', a.id,
               'recognition', a.message, a.asked_by, v_now)::internal.tenant_movement
      from unnest(v_asks) as a
     cross join unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)
     where a.verdict is null and r.share > 0
     order by a.position, r.place);

  insert into public.recognitions (
         tenant_id, id, from_user_id, to_user_id, recognition_type, award_tier, message, points, funded_by, visibility, department_id,
         pool_after, idempotency_key, request_hash, request_id, created_at, updated_at)
  select a.tenant_id, a.id, a.from_user_id, case when cardinality(a.recipients) = 1 then a.recipients[1] end, a.recognition_type,
         a.award_tier, a.message, a.points, coalesce(split_part(split_part(a.source, ':', 1), '.', 2), 'nothing'), a.visibility,
         a.department_id, a.pool_after, a.idempotency_key, a.request_hash, a.request_id, v_now, v_now
    from unnest(v_asks) as a
   where a.verdict is null;

  if exists (select from unnest(v_asks) as a where cardinality(a.recipients) > 1) then
    insert into public.recognition_groups (tenant_id, recognition_id, user_id, points, place, entry_id)
    select a.tenant_id, a.id, r.user_id, r.share, r.place, case when r.share > 0 then r.entry_id end
      from unnest(v_asks) as a
     cross join unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)
     where a.verdict is null and cardinality(a.recipients) > 1;
  end if;

  if cardinality(v_moves) > 0 then
    select array_agg(o.to_balance order by o.position), bool_and(o.outcome = 'posted')
      into v_balances, v_is_posted
      from internal.move_tenant_points(v_moves) as o;
    if not v_is_posted then
      raise exception 'an account does not hold what was found in it under its lock';
    end if;
  end if;

  -- What internal.points_text says is written out here: a call for each costs more than all the rest of an answer.
  return query
  select a.position, a.id, trim_scale(a.points)::text, (
           select jsonb_agg(jsonb_build_object('user_id', r.user_id, 'points', trim_scale(r.share)::text,
                    'new_wallet_balance', trim_scale(v_balances[a.moves_before + r.place])::text,
                    'ledger_entry_id', case when r.share > 0 then r.entry_id end) order by r.place)
             from unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)),
         coalesce(split_part(split_part(a.source, ':', 1), '.', 2), 'nothing'), trim_scale(a.pool_after)::text, false, null::jsonb
    from unnest(v_asks) as a
   where a.verdict is null;
  get diagnostics v_answered = row_count;

  if v_answered < cardinality(v_asks) then
    return query
    select k.* from internal.recall_recognitions(v_asks) as k
     union all
    select a.position, null, null, null, null, null, null, internal.refusal(a.verdict, a.detail)
      from unnest(v_asks) as a
     where a.verdict <> 'known';
  end if;
end
$$;

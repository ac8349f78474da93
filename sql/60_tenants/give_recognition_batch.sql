-- Recognizes people, with points or without: each request is an internal.recognition_request. One account pays a whole
-- recognition: a lead's own budget, else the company's pool, and where the tenant falls back to what there was of old, the
-- department's budget and then the giver's wallet. An employee gives from their own wallet where members may give to one another.
-- Requests of one tenant are decided in order of arrival.
--
-- Replay:  the same request under the same key is answered as the first time, with "replayed", for ever. Without a key each is new.
-- Locks:   internal.fund_recognitions; then the rows it writes.
-- Refuses: what they say of one request: invalid_body, invalid_amount, nonce_reused, forbidden, tenant_not_found,
--          recipient_not_found, self_recognition, peer_to_peer_off, department_cap_reached, insufficient_pool, insufficient_wallet.

create or replace function internal.give_recognition_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set enable_nestloop = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_asks internal.recognition_ask[] := internal.fund_recognitions(internal.ask_recognitions(p_requests));
  v_moves internal.tenant_movement[];
  v_moved internal.tenant_moved[];
begin
  v_moves := array(
    select row(a.tenant_id, r.entry_id, a.source, 'tenant.wallet:' || r.user_id, r.share, 'recognition', 'recognition', a.id,
               'recognition', a.message, a.asked_by, v_now)::internal.tenant_movement
      from unnest(v_asks) as a
     cross join unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)
     where a.verdict is null and r.share > 0
     order by a.position, r.place);

  insert into public.recognitions (
         tenant_id, id, from_user_id, recognition_type, award_tier, message, points, funded_by, visibility, department_id, pool_after,
         idempotency_key, request_hash, request_id, created_at, updated_at)
  select a.tenant_id, a.id, a.from_user_id, a.recognition_type, a.award_tier, a.message, a.points,
         coalesce(substring(a.source from '^tenant\.([a-z]+)'), 'nothing'), a.visibility, a.department_id, a.pool_after,
         a.idempotency_key, case when a.idempotency_key is not null then a.request_hash end, a.request_id, v_now, v_now
    from unnest(v_asks) as a
   where a.verdict is null;

  insert into public.recognition_recipients (tenant_id, recognition_id, user_id, points, place, entry_id)
  select a.tenant_id, a.id, r.user_id, r.share, r.place, case when r.share > 0 then r.entry_id end
    from unnest(v_asks) as a
   cross join unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)
   where a.verdict is null;

  if cardinality(v_moves) > 0 then
    v_moved := array(select o from internal.move_tenant_points(v_moves) as o order by o.position);
    if exists (select from unnest(v_moved) as o where o.outcome <> 'posted') then
      raise exception 'an account does not hold what was found in it under its lock';
    end if;
  end if;

  -- What stood in a wallet after each entry: what stands there now, less what came later in the set. What is known already is
  -- looked up, with ids named as ranges and in their order, and nothing may be sorted: so the primary keys are the only way in.
  return query
  with leg as (
    select m.id, l.account, l.delta, l.balance, m.ordinality
      from unnest(v_moves) with ordinality as m
      join unnest(v_moved) as o on o.position = m.ordinality
     cross join lateral (values (m.from_account, -m.amount, o.from_balance), (m.to_account, m.amount, o.to_balance)) as l(account, delta, balance)
     where starts_with(l.account, 'tenant.wallet:')
  ), stood as (
    select l.id, l.delta, l.balance - coalesce(sum(l.delta) over (
             partition by l.account order by l.ordinality desc rows between unbounded preceding and 1 preceding), 0) as balance_after
      from leg as l
  ), reached as (
    select a.position, jsonb_agg(jsonb_build_object('user_id', x.user_id, 'points', internal.points_text(x.share),
             'new_wallet_balance', internal.points_text(s.balance_after),
             'ledger_entry_id', case when x.share > 0 then x.entry_id end) order by x.place) as recipients
      from unnest(v_asks) as a
     cross join unnest(a.recipients, a.shares, a.entries) with ordinality as x(user_id, share, entry_id, place)
      left join stood as s on s.id = x.entry_id and s.delta > 0
     where a.verdict is null
     group by a.position
  )
  select a.position,
         case when a.verdict is null then
                jsonb_build_object('recognition_id', a.id, 'points', internal.points_text(a.points), 'recipients', n.recipients,
                  'funded_by', coalesce(substring(a.source from '^tenant\.([a-z]+)'), 'nothing'),
                  'tenant_remaining_pool', internal.points_text(a.pool_after), 'status', 'active')
              when a.verdict = 'known' then
                jsonb_build_object('recognition_id', r.id, 'points', internal.points_text(r.points), 'recipients', k.recipients,
                  'funded_by', r.funded_by, 'tenant_remaining_pool', internal.points_text(r.pool_after), 'status', 'active',
                  'replayed', true) end,
         case when a.verdict <> 'known' then internal.refusal(a.verdict, a.detail) end
    from unnest(v_asks) as a
    left join reached as n on n.position = a.position
    left join lateral (
         select x.* from public.recognitions as x
          where a.verdict = 'known' and x.tenant_id = a.tenant_id and x.id >= a.id and x.id <= a.id
          order by x.id limit 1) as r on true
    left join lateral (
         select jsonb_agg(jsonb_build_object('user_id', x.user_id, 'points', internal.points_text(x.points),
                  'new_wallet_balance', internal.points_text(l.balance_after), 'ledger_entry_id', x.entry_id) order by x.place) as recipients
           from (select y.* from public.recognition_recipients as y
                  where a.verdict = 'known' and y.tenant_id = a.tenant_id and y.recognition_id >= a.id and y.recognition_id <= a.id
                  order by y.recognition_id, y.user_id limit 200) as x
           left join lateral (
                select y.balance_after from public.wallet_ledger as y
                 where y.tenant_id = x.tenant_id and y.id >= x.entry_id and y.id <= x.entry_id
                   and y.user_id >= x.user_id and y.user_id <= x.user_id
                 order by y.id, y.user_id limit 1) as l on true) as k on true;
end
$$;

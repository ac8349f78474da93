-- Charges what a call of a model came to, out of what was reserved for it, and gives back the rest. Each request bears the
-- arguments of public.settle_credits.
-- Tokens are priced as they were when it was reserved: the same model, provider, power level, tier and price list; without a
-- known price at the default one. A program that knows the cost says the cost instead. A call that failed may have used neither.
-- What costs more than was reserved is taken from what is available besides, within the month's cap. What cannot be had is
-- told as the shortfall, and kept as the difference between the transaction's cost and its amount. A call that cost nothing is
-- written down with a transaction of nothing.
-- by_user: it is asked with the user's own token.
--
-- Replay:  the transaction bears the reservation's id. The same settlement gets the first answer again, with "replayed".
-- Locks:   internal.lock_credits.
-- Refuses: invalid_body, invalid_amount, reservation_not_found, forbidden, reservation_closed.

create or replace function internal.settle_credits_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_outcomes internal.outcome[];
  v_uncharged int;
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);
  -- While they are still held, so that what was reserved outlives its lot.
  perform internal.expire_credit_lots(v_users);

  v_outcomes := array(
    with request as materialized (
      select e.position, r.user_id, r.reservation_id, r.tokens_used, r.cost, s.success, r.metadata, r.by_user, r.request_id,
             internal.request_hash(jsonb_build_object(
               'tokens_used', r.tokens_used, 'cost', trim_scale(r.cost), 'success', s.success, 'metadata', r.metadata)) as request_hash,
             case when r.tokens_used is not null and r.cost is not null then 'cost: either the tokens or the cost, not both'
                  when r.tokens_used is null and r.cost is null and s.success
                       then 'tokens_used: a call that succeeded used tokens, or had a cost' end as fault,
             case when r.tokens_used not between 0 and 1000000000000 then 'tokens_used: must lie between 0 and 1000000000000'
                  when (r.cost >= 0 and r.cost < 1000000000) is false then 'cost: must lie between 0 and 1000000000' end as excess
        from jsonb_array_elements(p_requests) with ordinality as e(request, position)
       cross join lateral jsonb_to_record('{"by_user": false}'::jsonb || e.request) as r(
               user_id uuid, reservation_id uuid, tokens_used bigint, cost numeric, success boolean, metadata jsonb, by_user boolean,
               request_id text)
       cross join lateral (values (r.success is not false)) as s(success)
    ), found as materialized (
      select r.*, v.id is not null as is_known, v.amount as reserved, v.by_user as was_by_user, v.provider, v.model, v.power_level, v.tier,
             v.pricing_version, nullif(coalesce(v.metadata, '{}') || coalesce(r.metadata, '{}'), '{}') as all_metadata,
             t.cost as told_cost, -t.amount as told_charge, t.balance_after as told_balance, (t.request_hash = r.request_hash) is true as replayed,
             internal.credit_reservation_status(v.row, h.status, t.id is not null) as status
        from request as r
        left join lateral (
             select x.*, x as row from public.credit_reservations as x
              where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as v on true
        left join lateral (
             select x.* from public.credit_transactions as x
              where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as t on true
        left join lateral (
             select x.status from ledger.holds as x
              where x.book_id = r.user_id and x.hold_id = r.reservation_id limit 1) as h on true
    ), judged as materialized (
      select f.*,
             case when f.fault is not null then 'invalid_body'
                  when f.excess is not null then 'invalid_amount'
                  when not f.is_known then 'reservation_not_found'
                  when f.by_user is not false and not f.was_by_user then 'forbidden'
                  when f.replayed then 'known'
                  when f.status <> 'held' then 'reservation_closed' end as verdict
        from found as f
    ), priced as materialized (
      select j.*, c.tier as account_tier, c.monthly_cap, c.balance, coalesce(c.version, 0) as version, p.cost as price, a.available
        from judged as j
        left join lateral (
             select x.tier, x.monthly_cap, x.balance, x.version from public.user_credits as x
              where x.user_id = j.user_id limit 1) as c on true
        left join lateral (
             select (x.balance::numeric - x.held - x.floor) / 1000000 as available
               from ledger.accounts as x where x.book_id = j.user_id and x.account = 'credits' limit 1) as a on true
        -- The limit keeps the condition in front of the call: what is refused or known already is not priced.
        left join lateral (
             select (case when j.cost is null
                     then coalesce((internal.credit_cost(j.tokens_used, j.model, j.provider, j.power_level, j.tier, j.pricing_version)).cost, 0)
                     else j.cost end)::numeric(18, 6) as cost
              where j.verdict is null limit 1) as p on true
    ), charged as materialized (
      -- What is reserved is counted in the cap already.
      select p.*, case when p.price <= p.reserved then p.price
                       else p.reserved + greatest(0, least(p.price - p.reserved, coalesce(least(
                              p.available, case when p.monthly_cap is not null then internal.monthly_cap_room(p.user_id) end), 0)))
                  end::numeric(18, 6) as charge
        from priced as p
    ), closed as materialized (
      select ledger.close_holds(array(
               select row(c.user_id, c.reservation_id, null, null, (least(c.charge, c.reserved) * 1000000)::bigint, null, null, null, null,
                          null, null)::ledger.holds
                 from charged as c
                where c.verdict is null and c.reserved > 0), 'settled') as holds
    ), move as materialized (
      select internal.credit_move(
               c.user_id, -c.charge, 'usage', p_id => c.reservation_id, p_provider => c.provider, p_model => c.model,
               p_power_level => c.power_level, p_tokens_used => c.tokens_used, p_cost => c.price, p_metadata => c.all_metadata,
               p_request_hash => c.request_hash, p_request_id => c.request_id) as m,
             c.position
        from charged as c
       where c.verdict is null and (select x.holds from closed as x) >= 0
    ), moved as materialized (
      select o.id, o.outcome, o.balance_after
        from internal.move_credits(array(select x.m from move as x order by x.position)) as o
    ), used as materialized (
      select internal.record_usage(array(
               select internal.usage_event(
                        c.user_id, c.charge, c.tokens_used, p_provider => c.provider, p_model => c.model, p_power_level => c.power_level,
                        p_service => left(c.all_metadata ->> 'service', 100), p_success => c.success, p_metadata => c.all_metadata,
                        p_tier => c.tier, p_pricing_version => c.pricing_version, p_transaction_id => c.reservation_id)
                 from charged as c
                where c.verdict is null and (select count(*) from moved) >= 0)) as nothing
    ), answered as (
      select c.*, d.outcome, coalesce(d.balance_after, c.told_balance) as new_balance, coalesce(d.balance_after, c.balance, 0) as balance_now,
             coalesce(c.told_cost, c.price) as final_cost, coalesce(c.told_charge, c.charge) as final_charge
        from charged as c
        left join moved as d on d.id = c.reservation_id and c.verdict is null
    )
    select row(c.position::int,
           case when c.verdict = 'known' or c.outcome = 'posted' then jsonb_build_object(
             'transaction_id', c.reservation_id, 'cost', internal.credits_json(c.final_cost), 'charged', internal.credits_json(c.final_charge),
             'released', internal.credits_json(greatest(c.reserved - c.final_charge, 0)),
             'shortfall', internal.credits_json(c.final_cost - c.final_charge), 'new_balance', internal.credits_json(c.new_balance),
             'account', jsonb_build_object(
               'user_id', c.user_id, 'balance', internal.credits_json(c.balance_now), 'tier', coalesce(c.account_tier, 'free'),
               'monthly_cap', internal.credits_json(c.monthly_cap), 'version', c.version + (c.verdict is null)::int),
             'replayed', c.verdict is not null) end,
           case when c.verdict <> 'known' then internal.refusal(c.verdict, case c.verdict
             when 'invalid_body' then c.fault
             when 'invalid_amount' then c.excess
             when 'reservation_not_found' then format('reservation_id: there is no reservation %s', c.reservation_id)
             when 'forbidden' then 'Who reserved it settles it.'
             else format('reservation_id: it was %s already', c.status) end) end)::internal.outcome
      from answered as c
     cross join (select count(*) from used) as u);

  select o.position into v_uncharged from unnest(v_outcomes) as o where o.answer is null and o.refusal is null limit 1;
  if found then
    raise exception 'what was reserved could not be charged: request %', v_uncharged;
  end if;
  return query select o.* from unnest(v_outcomes) as o;
end
$$;

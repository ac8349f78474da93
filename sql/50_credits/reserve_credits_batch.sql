-- Sets credits aside before a call of a model, as many as it can cost at most, so that calls made at the same time never cost
-- more together than there is, nor than the month's cap. Each request bears the arguments of public.reserve_credits.
-- max_tokens: how many tokens the call can use; else as many as the power level allows. max_cost lowers what is set aside.
-- Where no price is known, what the power level allows a request to cost is set aside, and where it says nothing, nothing is.
-- What is free is reserved too, without a hold: the user may have nothing at all.
-- by_user: it was asked with the user's own token, who then may settle and release it. What a program reserved, a program ends.
--
-- Replay:  the same request under the same key gets the first answer again, with "replayed"; another one under it is refused.
-- Locks:   internal.lock_credits.
-- Refuses: invalid_body, invalid_amount, nonce_reused, price_unknown, monthly_cap_reached, insufficient_credits.

create or replace function internal.reserve_credits_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_version int := internal.pricing_version();
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  return query
  with request as materialized (
    select e.position, r.*,
           internal.request_hash(jsonb_build_object(
             'model', r.model, 'provider', r.provider, 'power_level', r.power_level, 'max_tokens', r.max_tokens,
             'max_cost', trim_scale(r.max_cost), 'expires_in_seconds', r.expires_in_seconds, 'metadata', r.metadata,
             'by_user', r.by_user)) as request_hash,
           -- What cannot be compared is no amount either.
           case when length(r.model) > 200 then 'model: must have at most 200 characters'
                when length(r.provider) > 100 then 'provider: must have at most 100 characters'
                when r.max_tokens not between 1 and 1000000000000 then 'max_tokens: must lie between 1 and 1000000000000'
                when (r.max_cost >= 0.000001 and r.max_cost < 1000000000) is false
                     then 'max_cost: must lie between 0.000001 and 1000000000'
                when (r.expires_in_seconds between 1 and 86400) is not true
                     then 'expires_in_seconds: must lie between 1 and 86400' end as fault
      from jsonb_array_elements(p_requests) with ordinality as e(request, position)
     cross join lateral jsonb_to_record(
             '{"power_level": "balanced", "expires_in_seconds": 600, "by_user": false}'::jsonb || e.request) as r(
             user_id uuid, model text, provider text, power_level text, max_tokens bigint, max_cost numeric,
             expires_in_seconds int, metadata jsonb, by_user boolean, idempotency_key text, request_id text)
  ), priced as materialized (
    select r.*, coalesce(c.tier, 'free') as tier, c.monthly_cap, coalesce(c.balance, 0) as cached, coalesce(c.version, 0) as version,
           coalesce(a.balance, 0) as balance, coalesce(a.held, 0) as held, coalesce(a.floor, 0) as floor, k as known,
           coalesce(r.max_tokens, l.max_tokens) as tokens, p.is_known, p.power_level as priced_level,
           least(case when p.is_known then p.cost else l.max_cost_per_request end, trunc(r.max_cost, 6)) as amount,
           p.is_known is false and l.max_cost_per_request is null as is_unknown
      from request as r
      left join lateral (
           select x.tier, x.monthly_cap, x.balance, x.version from public.user_credits as x
            where x.user_id = r.user_id limit 1) as c on true
      left join lateral (
           select x.balance / 1000000.0 as balance, x.held / 1000000.0 as held, x.floor / 1000000.0 as floor
             from ledger.accounts as x where x.book_id = r.user_id and x.account = 'credits' limit 1) as a on true
      left join lateral (
           select x.* from public.credit_reservations as x
            where x.user_id = r.user_id and x.idempotency_key = r.idempotency_key limit 1) as k on true
      left join lateral (
           select x.max_tokens, x.max_cost_per_request from public.pricing_power_levels as x
            where x.version = v_version and x.power_level in (r.power_level, 'balanced')
            order by x.power_level = r.power_level desc limit 1) as l on true
      -- The limit keeps the condition in front of the call: what is refused or known already is not priced.
      left join lateral (
           select x.* from internal.credit_cost(
                    coalesce(r.max_tokens, l.max_tokens), r.model, r.provider, r.power_level, coalesce(c.tier, 'free'), v_version) as x
            where r.fault is null and k.id is null limit 1) as p on true
  ), judged as materialized (
    -- What costs nothing is refused to nobody.
    select p.*, p.balance - p.held - p.amount as available,
           case when p.fault is not null then case when p.fault ~ '^max_' then 'invalid_amount' else 'invalid_body' end
                when (p.known).request_hash <> p.request_hash then 'nonce_reused'
                when (p.known).id is not null then 'known'
                when p.is_unknown then 'price_unknown'
                when p.amount > 0 and p.monthly_cap is not null and p.amount > internal.monthly_cap_room(p.user_id)
                     then 'monthly_cap_reached'
                when p.amount > 0 and p.balance - p.held - p.amount < p.floor then 'insufficient_credits' end as verdict
      from priced as p
  ), accepted as materialized (
    select j.*, internal.uuidv7() as id, v_now + make_interval(secs => j.expires_in_seconds) as expires_at
      from judged as j
     where j.verdict is null
  ), held as materialized (
    select ledger.hold_many(array(
             select row(a.user_id, a.id, 'credits', (a.amount * 1000000)::bigint, 0, 'held', 'credit_reservation', a.id, a.expires_at,
                        v_now, null)::ledger.holds
               from accepted as a
              where a.amount > 0)) as holds
  ), stored as (
    insert into public.credit_reservations as r (
           user_id, id, amount, model, provider, power_level, tokens, tier, pricing_version, is_price_known, by_user, balance, available,
           metadata, idempotency_key, request_hash, request_id, expires_at, created_at)
    select a.user_id, a.id, a.amount, a.model, a.provider, a.priced_level, a.tokens, a.tier, v_version, a.is_known, a.by_user, a.balance,
           a.available, a.metadata, a.idempotency_key, a.request_hash, a.request_id, a.expires_at, v_now
      from accepted as a
     where (select h.holds from held as h) >= 0
    returning r.*
  ), answered as (
    select j.*, coalesce(s.id, (j.known).id) as reservation_id, coalesce(s.amount, (j.known).amount) as told_amount,
           coalesce(s.is_price_known, (j.known).is_price_known) as told_known, coalesce(s.expires_at, (j.known).expires_at) as told_until,
           coalesce(s.balance, (j.known).balance) as told_balance, coalesce(s.available, (j.known).available) as told_available
      from judged as j
      left join stored as s on s.user_id = j.user_id
  )
  select j.position::int,
         case when j.verdict is null or j.verdict = 'known' then jsonb_build_object(
           'reservation_id', j.reservation_id, 'reserved', internal.credits_json(j.told_amount), 'is_price_known', j.told_known,
           'expires_at', j.told_until, 'balance', internal.credits_json(j.told_balance),
           'available', internal.credits_json(j.told_available), 'account', jsonb_build_object(
             'user_id', j.user_id, 'balance', internal.credits_json(j.cached), 'tier', j.tier,
             'monthly_cap', internal.credits_json(j.monthly_cap), 'version', j.version), 'replayed', j.verdict is not null) end,
         case when j.verdict <> 'known' then internal.refusal(j.verdict, case j.verdict
           when 'nonce_reused' then 'idempotency_key: it was used for another reservation'
           when 'price_unknown' then 'model: it has no price, and the power level no highest cost of a request'
           when 'monthly_cap_reached' then internal.monthly_cap_detail(j.monthly_cap)
           when 'insufficient_credits' then format('Insufficient credits. Balance: %s, Required: %s',
             internal.credits_text(j.balance - j.held - j.floor), internal.credits_text(j.amount))
           else j.fault end) end
    from answered as j;
end
$$;

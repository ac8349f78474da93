-- Charges what was used: an amount that the caller names, or the price of the tokens. Each request is an
-- internal.credit_deduction. What it does not say beside its metadata is looked for in there: provider, model, power_level,
-- tokens_used, service. Every charge is written down as a use, also where it cost nothing.
--
-- Replay:  the same request under the same key is answered as the first time, with "replayed", for ever. Without a key each is new.
-- Locks:   internal.lock_credits; then the rows it writes.
-- Refuses: invalid_body, invalid_amount, nonce_reused, monthly_cap_reached, insufficient_credits.

create or replace function internal.deduct_credits_batch(p_requests jsonb)
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
  v_version int := internal.pricing_version();
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  return query
  with request as materialized (
    select r.ordinality as position, r.user_id, r.amount, r.reason, r.metadata, r.idempotency_key, r.request_id,
           coalesce(r.model, left(r.metadata ->> 'model', 200)) as model,
           coalesce(r.provider, left(r.metadata ->> 'provider', 100)) as provider,
           coalesce(r.power_level, left(r.metadata ->> 'power_level', 100)) as power_level,
           coalesce(r.service, left(r.metadata ->> 'service', 100)) as service,
           -- Strictly: a list of one number is no number.
           coalesce(r.tokens_used, case when jsonb_path_exists(r.metadata, 'strict $.tokens_used ? (@ >= 0 && @ <= 1000000000000)', silent => true)
                                        then floor((r.metadata ->> 'tokens_used')::numeric)::bigint end) as tokens_used,
           internal.request_hash(jsonb_strip_nulls(to_jsonb(r) - '{user_id,ordinality,request_id,idempotency_key}'::text[]
             || jsonb_build_object('amount', trim_scale(r.amount)))) as request_hash
      from jsonb_populate_recordset(null::internal.credit_deduction, p_requests) with ordinality as r
  ), priced as materialized (
    select r.*, p.tier as priced_tier, p.pricing_version, coalesce(p.power_level, r.power_level) as counted_level,
           case when r.amount is null then p.cost else r.amount end as cost,
           coalesce(c.tier, 'free') as tier, c.monthly_cap, coalesce(c.version, 0) as version, c.balance as account_balance,
           a.available, t.id as known_id, t.amount as known_amount, t.balance_after as known_balance,
           t.request_hash as known_hash, t.model as known_model, t.power_level as known_level
      from request as r
      left join lateral (
           select x.tier, x.monthly_cap, x.version, x.balance from public.user_credits as x where x.user_id = r.user_id limit 1) as c on true
      left join lateral (
           select (x.balance - x.held - x.floor) / 1000000.0 as available
             from ledger.accounts as x where x.book_id = r.user_id and x.account = 'credits' limit 1) as a on true
      left join lateral (
           select x.* from public.credit_transactions as x
            where x.user_id = r.user_id and x.idempotency_key = r.idempotency_key limit 1) as t on true
      -- The limit keeps the condition in front of the call: an amount that is named has no price, nor what is known already.
      left join lateral (
           select x.* from internal.credit_cost(r.tokens_used, r.model, r.provider, r.power_level, coalesce(c.tier, 'free'), v_version) as x
            where r.amount is null and t.id is null limit 1) as p on true
  ), judged as materialized (
    select p.*, case
             when p.known_hash = p.request_hash then 'known'
             when p.known_id is not null then 'nonce_reused'
             when length(p.model) > 200 or length(p.provider) > 100 or length(p.power_level) > 100 or length(p.service) > 100
                  or internal.is_system_key(p.idempotency_key) then 'invalid_body'
             when p.amount is null and (p.tokens_used is null or coalesce(p.model, p.provider) is null) then 'invalid_body'
             when p.tokens_used not between 0 and 1000000000000 then 'invalid_amount'
             when p.amount is not null and not (p.amount > 0 and p.amount <= 1000000000 and scale(trim_scale(p.amount)) <= 6)
                  then 'invalid_amount'
             when p.monthly_cap is not null and p.cost > internal.monthly_cap_room(p.user_id) then 'monthly_cap_reached'
           end as verdict
      from priced as p
  ), move as materialized (
    select internal.credit_move(
             j.user_id, -j.cost, 'usage', p_reason => j.reason, p_provider => j.provider, p_model => j.model,
             p_power_level => j.counted_level, p_tokens_used => j.tokens_used, p_cost => j.cost, p_metadata => j.metadata,
             p_idempotency_key => j.idempotency_key, p_request_hash => j.request_hash, p_request_id => j.request_id) as m,
           j.position
      from judged as j
     where j.verdict is null
  ), moved as materialized (
    select o.id, o.outcome, o.balance_after, (m.m).user_id
      from internal.move_credits(array(select x.m from move as x order by x.position)) as o
      join move as m on (m.m).id = o.id
  ), used as materialized (
    select internal.record_usage(array(
             select internal.usage_event(
                      j.user_id, j.cost, j.tokens_used, p_provider => j.provider, p_model => j.model, p_power_level => j.counted_level,
                      p_service => j.service, p_metadata => j.metadata, p_tier => j.tier, p_pricing_version => j.pricing_version,
                      p_transaction_id => d.id)
               from moved as d
               join judged as j on j.user_id = d.user_id
              where d.outcome = 'posted')) as nothing
  )
  select j.position::int,
         case when j.verdict = 'known' then jsonb_strip_nulls(jsonb_build_object(
                'transaction_id', j.known_id, 'cost', internal.credits_json(-j.known_amount),
                'new_balance', internal.credits_json(j.known_balance), 'model', j.known_model, 'power_level', j.known_level, 'replayed', true))
                || jsonb_build_object('account', jsonb_build_object(
                'balance', internal.credits_json(j.account_balance), 'tier', j.tier,
                'monthly_cap', internal.credits_json(j.monthly_cap), 'version', j.version))
              when d.outcome = 'posted' then jsonb_strip_nulls(jsonb_build_object(
                'transaction_id', d.id, 'cost', internal.credits_json(j.cost), 'new_balance', internal.credits_json(d.balance_after),
                'model', j.model, 'power_level', j.counted_level)) || jsonb_build_object('account', jsonb_build_object(
                'balance', internal.credits_json(d.balance_after), 'tier', j.tier,
                'monthly_cap', internal.credits_json(j.monthly_cap), 'version', j.version + 1)) end,
         case when j.verdict = 'known' or d.outcome = 'posted' then null
              when j.verdict is null then internal.refusal('insufficient_credits', format('Insufficient credits. Balance: %s, Required: %s',
                internal.credits_text(coalesce(j.available, 0)), internal.credits_text(j.cost)))
              else internal.refusal(j.verdict, case j.verdict
                when 'nonce_reused' then 'idempotency_key: it came with another request before'
                when 'monthly_cap_reached' then internal.monthly_cap_detail(j.monthly_cap)
                when 'invalid_amount' then case when j.amount is null
                  then 'tokens_used: must be between 0 and 1000000000000'
                  else 'amount: must be above 0, at most 1000000000, with at most six decimal places' end
                else case when length(j.model) > 200 then 'model: must have at most 200 characters'
                          when length(j.provider) > 100 then 'provider: must have at most 100 characters'
                          when length(j.power_level) > 100 then 'power_level: must have at most 100 characters'
                          when length(j.service) > 100 then 'service: must have at most 100 characters'
                          when internal.is_system_key(j.idempotency_key) then 'idempotency_key: must not begin with purchase: or allocation:'
                          when j.tokens_used is null then 'tokens_used: must say how many, or amount what they cost'
                          else 'model: must say what was used, or amount what it cost' end end) end
    from judged as j
    left join moved as d on d.user_id = j.user_id
   cross join (select count(*) from used) as u;
end
$$;

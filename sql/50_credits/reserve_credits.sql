-- Sets credits aside before a call of a model, as many as it can cost at most, so that calls made at the same time never cost
-- more together than there is, nor than the month's cap.
-- p_max_tokens: how many tokens the call can use; else as many as the power level allows. p_max_cost lowers what is set aside.
-- Where no price is known, what the power level allows a request to cost is set aside, and where it says nothing, nothing is.
-- What is free is reserved too, without a hold: the user may have nothing at all.
-- p_by_user: it was asked with the user's own token, who then may settle and release it. What a program reserved, a program ends.
--
-- Replay:  the same request under the same key gets the first answer again, with "replayed"; another one under it is refused.
-- Locks:   internal.lock_credits.
-- Refuses: invalid_body, invalid_amount, nonce_reused, price_unknown, monthly_cap_reached, insufficient_credits.

create or replace function public.reserve_credits(
  p_user_id            uuid,
  p_model              text default null,
  p_provider           text default null,
  p_power_level        text default 'balanced',
  p_max_tokens         bigint default null,
  p_max_cost           numeric default null,
  p_expires_in_seconds int default 600,
  p_metadata           jsonb default null,
  p_by_user            boolean default false,
  p_idempotency_key    text default null,
  p_request_id         text default null
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
  v_hash text;
  v_reservation public.credit_reservations;
  v_replayed boolean;
  v_version int := internal.pricing_version();
  v_tier text;
  v_cap numeric;
  v_tokens_max int;
  v_cost_max numeric;
  v_price internal.credit_price;
  v_balance numeric;
  v_held numeric;
  v_floor numeric;
begin
  perform internal.act_for(array[p_user_id]);
  if length(p_model) > 200 then
    perform internal.refuse('invalid_body', 'model: must have at most 200 characters');
  elsif length(p_provider) > 100 then
    perform internal.refuse('invalid_body', 'provider: must have at most 100 characters');
  end if;
  if p_max_tokens not between 1 and 1000000000000 then
    perform internal.refuse('invalid_amount', 'max_tokens: must lie between 1 and 1000000000000');
  end if;
  -- What cannot be compared is no amount either.
  if (p_max_cost >= 0.000001 and p_max_cost < 1000000000) is false then
    perform internal.refuse('invalid_amount', 'max_cost: must lie between 0.000001 and 1000000000');
  end if;
  if p_expires_in_seconds is null or p_expires_in_seconds not between 1 and 86400 then
    perform internal.refuse('invalid_body', 'expires_in_seconds: must lie between 1 and 86400');
  end if;
  v_hash := internal.request_hash(jsonb_build_object(
    'model', p_model, 'provider', p_provider, 'power_level', p_power_level, 'max_tokens', p_max_tokens,
    'max_cost', trim_scale(p_max_cost), 'expires_in_seconds', p_expires_in_seconds, 'metadata', p_metadata, 'by_user', p_by_user));

  perform internal.lock_credits(array[p_user_id]);

  select r.* into v_reservation
    from public.credit_reservations as r
   where r.user_id = p_user_id and r.idempotency_key = p_idempotency_key;
  v_replayed := found;
  if v_replayed and v_reservation.request_hash <> v_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it was used for another reservation');
  end if;

  if not v_replayed then
    perform internal.expire_credit_lots(array[p_user_id]);
    select coalesce(a.balance, 0) / 1000000.0, coalesce(a.held, 0) / 1000000.0, coalesce(a.floor, 0) / 1000000.0,
           coalesce(c.tier, 'free'), c.monthly_cap
      into v_balance, v_held, v_floor, v_tier, v_cap
      from (values (p_user_id)) as u(user_id)
      left join ledger.accounts as a on a.book_id = u.user_id and a.account = 'credits'
      left join public.user_credits as c on c.user_id = u.user_id;

    select l.max_tokens, l.max_cost_per_request into v_tokens_max, v_cost_max
      from public.pricing_power_levels as l
     where l.version = v_version and l.power_level in (p_power_level, 'balanced')
     order by l.power_level = p_power_level desc
     limit 1;
    v_price := internal.credit_cost(coalesce(p_max_tokens, v_tokens_max), p_model, p_provider, p_power_level, v_tier, v_version);
    if v_price.is_known then
      v_cost_max := v_price.cost;
    elsif v_cost_max is null then
      perform internal.refuse('price_unknown', 'model: it has no price, and the power level no highest cost of a request');
    end if;

    v_reservation.user_id := p_user_id;
    v_reservation.id := internal.uuidv7();
    v_reservation.amount := least(v_cost_max, trunc(p_max_cost, 6));
    v_reservation.model := p_model;
    v_reservation.provider := p_provider;
    v_reservation.power_level := v_price.power_level;
    v_reservation.tokens := coalesce(p_max_tokens, v_tokens_max);
    v_reservation.tier := v_tier;
    v_reservation.pricing_version := v_version;
    v_reservation.is_price_known := v_price.is_known;
    v_reservation.by_user := p_by_user;
    v_reservation.balance := v_balance;
    v_reservation.available := v_balance - v_held - v_reservation.amount;
    v_reservation.metadata := p_metadata;
    v_reservation.idempotency_key := p_idempotency_key;
    v_reservation.request_hash := v_hash;
    v_reservation.request_id := p_request_id;
    v_reservation.expires_at := v_now + make_interval(secs => p_expires_in_seconds);
    v_reservation.created_at := v_now;

    -- What costs nothing is refused to nobody.
    if v_reservation.amount > 0 then
      if v_reservation.amount > internal.monthly_cap_room(p_user_id) then
        perform internal.refuse('monthly_cap_reached', internal.monthly_cap_detail(v_cap));
      elsif v_reservation.available < v_floor then
        perform internal.refuse('insufficient_credits', format('Insufficient credits. Balance: %s, Required: %s',
          internal.credits_text(v_balance - v_held - v_floor), internal.credits_text(v_reservation.amount)));
      end if;
      perform ledger.hold(p_user_id, v_reservation.id, 'credits', (v_reservation.amount * 1000000)::bigint,
        'credit_reservation', v_reservation.id, v_reservation.expires_at);
    end if;
    insert into public.credit_reservations select v_reservation.*;
  end if;

  return jsonb_build_object(
    'reservation_id', v_reservation.id, 'reserved', internal.credits_json(v_reservation.amount),
    'is_price_known', v_reservation.is_price_known, 'expires_at', v_reservation.expires_at,
    'balance', internal.credits_json(v_reservation.balance), 'available', internal.credits_json(v_reservation.available),
    'account', internal.credit_account(p_user_id), 'replayed', v_replayed);
end
$$;

-- Charges what a call of a model came to, out of what was reserved for it, and gives back the rest.
-- Tokens are priced as they were when it was reserved: the same model, provider, power level, tier and price list; without a
-- known price at the default one. A program that knows the cost says the cost instead. A call that failed may have used neither.
-- What costs more than was reserved is taken from what is available besides, within the month's cap. What cannot be had is
-- told as the shortfall, and kept as the difference between the transaction's cost and its amount. A call that cost nothing is
-- written down with a transaction of nothing.
-- p_by_user: it is asked with the user's own token.
--
-- Replay:  the transaction bears the reservation's id. The same settlement gets the first answer again, with "replayed".
-- Locks:   internal.lock_credits.
-- Refuses: invalid_body, invalid_amount, reservation_not_found, forbidden, reservation_closed.

create or replace function public.settle_credits(
  p_user_id        uuid,
  p_reservation_id uuid,
  p_tokens_used    bigint default null,
  p_cost           numeric default null,
  p_success        boolean default true,
  p_metadata       jsonb default null,
  p_by_user        boolean default false,
  p_request_id     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_hash text;
  v_reservation public.credit_reservations;
  v_transaction public.credit_transactions;
  v_replayed boolean;
  v_status text;
  v_cost numeric(18, 6);
  v_charged numeric(18, 6);
  v_room numeric;
  v_metadata jsonb;
  v_moved internal.credit_moved;
begin
  perform internal.act_for(array[p_user_id]);
  p_success := p_success is not false;
  if p_tokens_used is not null and p_cost is not null then
    perform internal.refuse('invalid_body', 'cost: either the tokens or the cost, not both');
  elsif p_tokens_used is null and p_cost is null and p_success then
    perform internal.refuse('invalid_body', 'tokens_used: a call that succeeded used tokens, or had a cost');
  end if;
  if p_tokens_used not between 0 and 1000000000000 then
    perform internal.refuse('invalid_amount', 'tokens_used: must lie between 0 and 1000000000000');
  end if;
  if (p_cost >= 0 and p_cost < 1000000000) is false then
    perform internal.refuse('invalid_amount', 'cost: must lie between 0 and 1000000000');
  end if;
  v_hash := internal.request_hash(jsonb_build_object(
    'tokens_used', p_tokens_used, 'cost', trim_scale(p_cost), 'success', p_success, 'metadata', p_metadata));

  perform internal.lock_credits(array[p_user_id]);

  select r.* into v_reservation from public.credit_reservations as r where r.user_id = p_user_id and r.id = p_reservation_id;
  if not found then
    perform internal.refuse('reservation_not_found', format('reservation_id: there is no reservation %s', p_reservation_id));
  end if;
  if p_by_user is not false and not v_reservation.by_user then
    perform internal.refuse('forbidden', 'Who reserved it settles it.');
  end if;

  select t.* into v_transaction from public.credit_transactions as t where t.user_id = p_user_id and t.id = p_reservation_id;
  v_replayed := found and v_transaction.request_hash = v_hash;
  v_status := internal.credit_reservation_status(v_reservation);
  if not v_replayed and v_status <> 'held' then
    perform internal.refuse('reservation_closed', format('reservation_id: it was %s already', v_status));
  end if;

  if v_replayed then
    v_cost := v_transaction.cost;
    v_charged := -v_transaction.amount;
    v_moved.balance_after := v_transaction.balance_after;
  else
    -- While they are still held, so that what was reserved outlives its lot.
    perform internal.expire_credit_lots(array[p_user_id]);

    v_cost := coalesce(p_cost, (internal.credit_cost(p_tokens_used, v_reservation.model, v_reservation.provider,
      v_reservation.power_level, v_reservation.tier, v_reservation.pricing_version)).cost, 0);
    v_charged := least(v_cost, v_reservation.amount);
    if v_cost > v_reservation.amount then
      -- What is reserved is counted in the cap already.
      select least((a.balance::numeric - a.held - a.floor) / 1000000, internal.monthly_cap_room(p_user_id))
        into v_room
        from ledger.accounts as a
       where a.book_id = p_user_id and a.account = 'credits';
      v_charged := v_charged + greatest(0, least(v_cost - v_reservation.amount, coalesce(v_room, 0)));
    end if;

    if v_reservation.amount > 0 then
      perform ledger.close_hold(p_user_id, p_reservation_id, 'settled',
        (least(v_charged, v_reservation.amount) * 1000000)::bigint);
    end if;
    v_metadata := nullif(coalesce(v_reservation.metadata, '{}') || coalesce(p_metadata, '{}'), '{}');
    select m.* into v_moved
      from internal.move_credits(array[internal.credit_move(
             p_user_id, -v_charged, 'usage', p_id => p_reservation_id, p_provider => v_reservation.provider,
             p_model => v_reservation.model, p_power_level => v_reservation.power_level, p_tokens_used => p_tokens_used,
             p_cost => v_cost, p_metadata => v_metadata, p_request_hash => v_hash, p_request_id => p_request_id)]) as m;
    if v_moved.outcome <> 'posted' then
      raise exception 'what was reserved could not be charged: %', v_moved;
    end if;

    perform internal.record_usage(array[internal.usage_event(
      p_user_id, v_charged, p_tokens_used, p_provider => v_reservation.provider, p_model => v_reservation.model,
      p_power_level => v_reservation.power_level, p_service => left(v_metadata ->> 'service', 100), p_success => p_success,
      p_metadata => v_metadata, p_tier => v_reservation.tier, p_pricing_version => v_reservation.pricing_version,
      p_transaction_id => p_reservation_id)]);
  end if;

  return jsonb_build_object(
    'transaction_id', p_reservation_id, 'cost', internal.credits_json(v_cost), 'charged', internal.credits_json(v_charged),
    'released', internal.credits_json(greatest(v_reservation.amount - v_charged, 0)),
    'shortfall', internal.credits_json(v_cost - v_charged), 'new_balance', internal.credits_json(v_moved.balance_after),
    'account', internal.credit_account(p_user_id), 'replayed', v_replayed);
end
$$;

-- Grants a package of credits that was paid for: what a payment provider's webhook calls, and an administrator for it. The
-- user's largest waiting discount is spent on it, unless the whole price was paid. A package that is no longer on offer is
-- granted all the same, because it was paid. Returns {transaction_id, credits, price, currency, discount, amount_due,
-- new_balance, account}.
--
-- Replay:  the same payment again is answered as the first time, with "replayed", for ever, whatever its amount.
-- Locks:   the user's credits.
-- Refuses: forbidden, user_not_found, invalid_body, package_not_found, own_event, payment_mismatch: less was paid than is due;
--          nonce_reused: the user's payment came with another package before.

create or replace function public.record_credit_purchase(
  p_user_id     uuid,
  p_account     text,
  p_package     text,
  p_payment_id  text,
  p_amount_paid numeric default null,
  p_actor       text default null,
  p_request_id  text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_buyer uuid := internal.user_of_account(p_account);
  v_key text := 'purchase:' || p_payment_id;
  v_hash text := internal.request_hash(jsonb_build_object('package', p_package));
  v_id uuid;
  v_package public.credit_packages;
  v_offer record;
  v_discount numeric;
  v_transaction public.credit_transactions;
  v_is_new boolean;
begin
  if coalesce(p_payment_id, '') !~ '^\S{1,200}$' then
    perform internal.refuse('invalid_body', 'payment_id: must be 1 to 200 characters without blanks');
  elsif not (p_amount_paid >= 0 and p_amount_paid < 1e12) then
    perform internal.refuse('invalid_body', 'amount_paid: must be an amount');
  end if;
  if v_buyer = p_user_id then
    perform internal.refuse('own_event', 'account: nobody records a payment of their own');
  end if;
  perform internal.lock_credits(array[v_buyer]);

  select t.* into v_transaction from public.credit_transactions as t where t.user_id = v_buyer and t.idempotency_key = v_key;
  v_is_new := v_transaction.id is null;
  if not v_is_new and v_transaction.request_hash is distinct from v_hash then
    perform internal.refuse('nonce_reused', format('payment_id: %s came with another package before', p_payment_id));
  end if;

  if v_is_new then
    select p.* into v_package from public.credit_packages as p where p.package = p_package;
    if v_package.package is null then
      perform internal.refuse('package_not_found', format('package: %s', p_package));
    end if;
    select d.* into v_offer
      from internal.waiting_discount(v_buyer) as d
     where v_package.price > 0 and (p_amount_paid >= v_package.price) is not true;
    v_discount := coalesce(round(v_package.price * v_offer.percent / 100, 2), 0);
    if p_amount_paid < v_package.price - v_discount then
      perform internal.refuse('payment_mismatch', format('amount_paid: %s %s is due, and %s was paid',
        v_package.price - v_discount, v_package.currency, p_amount_paid));
    end if;

    perform internal.expire_credit_lots(array[v_buyer]);
    -- Ids tell the order, so it is made when everything before has happened.
    v_id := internal.uuidv7();
    perform internal.move_credits(array[internal.credit_move(
      v_buyer, v_package.credits, 'purchase', p_id => v_id, p_reason => format('Package %s', p_package),
      p_metadata => jsonb_build_object(
        'payment_id', p_payment_id, 'package', p_package, 'price', internal.credits_json(v_package.price), 'currency', v_package.currency,
        'discount', internal.credits_json(v_discount), 'amount_due', internal.credits_json(v_package.price - v_discount), 'code', v_offer.code),
      p_idempotency_key => v_key, p_request_hash => v_hash, p_actor => v_actor, p_request_id => p_request_id)]);
    update public.coupon_redemptions as r
       set spent_on = v_id
     where r.user_id = v_buyer and r.code = v_offer.code and r.redemption = v_offer.redemption;
    select t.* into v_transaction from public.credit_transactions as t where t.user_id = v_buyer and t.id = v_id;
  end if;

  return jsonb_build_object(
           'transaction_id', v_transaction.id, 'credits', internal.credits_json(v_transaction.amount),
           'price', v_transaction.metadata -> 'price', 'currency', v_transaction.metadata -> 'currency',
           'discount', v_transaction.metadata -> 'discount', 'amount_due', v_transaction.metadata -> 'amount_due',
           'new_balance', internal.credits_json(v_transaction.balance_after),
           'account', internal.credit_account(v_buyer), 'replayed', not v_is_new);
end
$$;

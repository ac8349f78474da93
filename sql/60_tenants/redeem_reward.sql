-- Spends a member's points on a reward of their tenant. Returns {redemption_id, tenant_id, reward_id, reward_name,
-- points_spent, new_wallet_balance, ledger_entry_id}.
--
-- Replay:  under a key of the member's the same redemption is answered as the first time, with "replayed", for ever.
-- Locks:   the wallet's account; then the reward's row, where its stock ends.
-- Refuses: invalid_body, forbidden, nonce_reused, redemptions_paused, reward_not_found, reward_out_of_stock,
--          insufficient_wallet.

create or replace function public.redeem_reward(
  p_user_id         uuid,
  p_reward_id       uuid,
  p_tenant_id       uuid default null,
  p_idempotency_key text default null,
  p_request_id      text default null
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
  v_tenant_id uuid := (internal.membership(p_user_id, p_tenant_id)).tenant_id;
  v_wallet text := 'tenant.wallet:' || p_user_id;
  v_hash text := internal.request_hash(jsonb_build_object('reward', p_reward_id));
  v_tenant public.tenants;
  v_available numeric(15, 2);
  v_reward public.rewards;
  v_done public.reward_redemptions;
  v_replayed boolean;
  v_entry public.wallet_ledger;
begin
  if length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  elsif p_reward_id is null then
    perform internal.refuse('invalid_body', 'reward_id: must be named');
  end if;

  perform from ledger.lock(array[v_tenant_id], v_wallet);
  select x.* into v_done
    from public.reward_redemptions as x
   where x.tenant_id = v_tenant_id and x.user_id = p_user_id and x.idempotency_key = p_idempotency_key;
  v_replayed := v_done.id is not null;
  if v_replayed and v_done.request_hash <> v_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;

  if not v_replayed then
    select t.* into v_tenant from public.tenants as t where t.id = v_tenant_id;
    if v_tenant.redemptions_paused then
      perform internal.refuse('redemptions_paused', 'This tenant has paused them.');
    end if;
    if v_tenant.wallet_expiry_policy <> 'never' then
      perform internal.expire_wallet_lots(array[v_tenant_id], array[p_user_id]);
    end if;

    select r.* into v_reward from public.rewards as r where r.tenant_id = v_tenant_id and r.id = p_reward_id and r.is_active;
    if v_reward.id is null then
      perform internal.refuse('reward_not_found', format('reward_id: %s', p_reward_id));
    elsif v_reward.stock is not null then
      -- Somebody may have changed or emptied it since it was read.
      update public.rewards as r
         set stock = r.stock - 1, updated_at = internal.clock()
       where r.tenant_id = v_tenant_id and r.id = p_reward_id and r.is_active and (r.stock > 0 or r.stock is null)
      returning r.* into v_reward;
      if not found then
        perform internal.refuse('reward_out_of_stock', format('reward_id: %s', p_reward_id));
      end if;
    end if;

    select coalesce(min(a.balance - a.held), 0) / 100.0 into v_available
      from ledger.accounts as a where a.book_id = v_tenant_id and a.account = v_wallet;
    if v_available < v_reward.points_cost then
      perform internal.refuse('insufficient_wallet', format('Available: %s, Required: %s',
        internal.points_text(v_available), internal.points_text(v_reward.points_cost)));
    end if;

    v_done.tenant_id := v_tenant_id;
    v_done.id := internal.uuidv7();
    v_done.entry_id := internal.uuidv7();
    v_done.reward_id := p_reward_id;
    v_done.points := v_reward.points_cost;
    perform from internal.move_tenant_points(array[internal.tenant_move(
      v_tenant_id, v_wallet, 'tenant.redeemed', v_done.points, 'redemption', 'reward_redemption', v_done.id, v_done.entry_id,
      'redemption', v_reward.name, p_user_id)]);
    insert into public.reward_redemptions (
           tenant_id, id, user_id, reward_id, points, entry_id, idempotency_key, request_hash, request_id)
    values (v_tenant_id, v_done.id, p_user_id, p_reward_id, v_done.points, v_done.entry_id, p_idempotency_key, v_hash, p_request_id);
  end if;

  select l.* into v_entry
    from public.wallet_ledger as l where l.tenant_id = v_tenant_id and l.id = v_done.entry_id and l.user_id = p_user_id;
  return jsonb_build_object(
      'redemption_id', v_done.id, 'tenant_id', v_tenant_id, 'reward_id', v_done.reward_id, 'reward_name', v_entry.description,
      'points_spent', internal.points_text(v_done.points), 'new_wallet_balance', internal.points_text(v_entry.balance_after),
      'ledger_entry_id', v_done.entry_id)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

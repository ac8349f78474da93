-- Gives back the points of a redemption, and puts the reward back where its stock ends. A manager's, an administrator's or
-- a program's decision. The entry in the wallet bears the redemption's id. Returns {redemption_id, tenant_id, user_id,
-- reward_id, points_refunded, new_wallet_balance, ledger_entry_id}.
--
-- Replay:  what was refunded is answered as the first time, with "replayed", whatever the reason now.
-- Locks:   the wallet's account; then the reward's row.
-- Refuses: forbidden, invalid_body, invalid_amount, tenant_not_found, reason_required, redemption_not_found, own_event.

create or replace function public.refund_reward_redemption(
  p_user_id       uuid,
  p_redemption_id uuid,
  p_reason        text,
  p_tenant_id     uuid default null,
  p_actor         text default null,
  p_request_id    text default null
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
  v_who record := internal.managing(p_user_id, p_tenant_id, p_actor);
  v_done public.reward_redemptions;
  v_replayed boolean;
  v_entry public.wallet_ledger;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  select x.* into v_done from public.reward_redemptions as x where x.tenant_id = v_who.tenant_id and x.id = p_redemption_id;
  if v_done.id is null then
    perform internal.refuse('redemption_not_found', format('redemption_id: %s', p_redemption_id));
  elsif v_done.user_id = p_user_id then
    perform internal.refuse('own_event', 'redemption_id: nobody refunds points to themselves');
  end if;

  perform from ledger.lock(array[v_who.tenant_id], 'tenant.wallet:' || v_done.user_id);
  update public.reward_redemptions as x
     set status = 'refunded'
   where x.tenant_id = v_who.tenant_id and x.id = p_redemption_id and x.status = 'completed';
  v_replayed := not found;

  if not v_replayed then
    begin
      perform from internal.move_tenant_points(array[internal.tenant_move(
        v_who.tenant_id, 'tenant.redeemed', 'tenant.wallet:' || v_done.user_id, v_done.points, 'reversal', 'reward_redemption',
        v_done.id, v_done.id, 'reversal', p_reason, p_user_id)]);
    exception when numeric_value_out_of_range then
      perform internal.refuse('invalid_amount', 'redemption_id: no wallet holds as much, nor was ever filled with as much');
    end;
    update public.rewards as r
       set stock = r.stock + 1, updated_at = internal.clock()
     where r.tenant_id = v_who.tenant_id and r.id = v_done.reward_id and r.stock is not null;
  end if;

  select l.* into v_entry
    from public.wallet_ledger as l where l.tenant_id = v_who.tenant_id and l.id = v_done.id and l.user_id = v_done.user_id;
  if not v_replayed then
    perform internal.audit(
      v_who.actor, 'reward.refund', 'user', v_done.user_id::text, p_reason,
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after - v_done.points)),
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after), 'tenant_id', v_who.tenant_id,
        'redemption_id', v_done.id, 'points', internal.points_text(v_done.points)), p_request_id);
  end if;
  return jsonb_build_object(
      'redemption_id', v_done.id, 'tenant_id', v_who.tenant_id, 'user_id', v_done.user_id, 'reward_id', v_done.reward_id,
      'points_refunded', internal.points_text(v_done.points), 'new_wallet_balance', internal.points_text(v_entry.balance_after),
      'ledger_entry_id', v_done.id)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

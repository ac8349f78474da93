-- Fills a member's wallet from outside the pool: hr_allocation brings what an older system kept for them, adjustment puts
-- something right. An administrator's or a program's. Returns {tenant_id, user_id, amount, new_wallet_balance,
-- ledger_entry_id}.
--
-- Replay:  an entry's id may be the caller's own: the same again is answered as the first time, with "replayed", for ever.
-- Locks:   the entry's id; then the wallet's account. Not the member's row, which an award changes after the accounts.
-- Refuses: forbidden, tenant_not_found, recipient_not_found, own_event, invalid_body, invalid_amount, reason_required,
--          nonce_reused.

create or replace function public.credit_wallet(
  p_user_id    uuid,
  p_tenant_id  uuid,
  p_to_user_id uuid,
  p_amount     numeric,
  p_source     text,
  p_reason     text,
  p_entry_id   uuid default null,
  p_actor      text default null,
  p_request_id text default null
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
  v_actor text := internal.actor(p_user_id, p_actor);
  v_id uuid := coalesce(p_entry_id, internal.uuidv7());
  v_outcome text;
  v_entry public.wallet_ledger;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif p_amount is null or p_amount <= 0 or p_amount > 9999999999999.99 or scale(trim_scale(p_amount)) > 2 then
    perform internal.refuse('invalid_amount', 'amount: must be greater than zero, with at most two decimal places');
  elsif p_source is null or p_source not in ('hr_allocation', 'adjustment') then
    perform internal.refuse('invalid_body', 'source: must be hr_allocation or adjustment');
  elsif p_to_user_id = p_user_id then
    perform internal.refuse('own_event', 'to_user_id: nobody fills their own wallet');
  elsif not exists (select from public.tenants as t where t.id = p_tenant_id) then
    perform internal.refuse('tenant_not_found', 'Tenant not found');
  end if;

  -- A first credit finds no account to lock. Of two at once under one id, the second finds the first one's entry.
  perform pg_advisory_xact_lock(hashtextextended(format('tallybook.wallet_credit %s %s', p_tenant_id, v_id), 0));
  perform from public.tenant_members as m where m.tenant_id = p_tenant_id and m.user_id = p_to_user_id;
  if not found then
    perform internal.refuse('recipient_not_found', format('to_user_id: %s', p_to_user_id));
  end if;

  begin
    select m.outcome into v_outcome
      from internal.move_tenant_points(array[internal.tenant_move(
        p_tenant_id, case p_source when 'adjustment' then 'tenant.adjusted' else 'tenant.legacy' end, 'tenant.wallet:' || p_to_user_id,
        p_amount, 'wallet_credit', 'wallet_credit', v_id, v_id, p_source, p_reason, p_user_id)]) as m;
  exception when numeric_value_out_of_range then
    perform internal.refuse('invalid_amount', 'amount: no wallet holds as much, nor was ever filled with as much');
  end;
  select l.* into v_entry
    from public.wallet_ledger as l where l.tenant_id = p_tenant_id and l.id = v_id and l.user_id = p_to_user_id;
  if v_outcome = 'posted' then
    perform internal.audit(
      v_actor, 'wallet.credit', 'user', p_to_user_id::text, p_reason,
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after - p_amount)),
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after), 'tenant_id', p_tenant_id,
        'amount', internal.points_text(p_amount), 'source', p_source, 'ledger_entry_id', v_id), p_request_id);
  elsif (v_entry.points, v_entry.source, v_entry.reference_type) is distinct from (p_amount, p_source, 'wallet_credit') then
    perform internal.refuse('nonce_reused', 'entry_id: it came with another request before');
  end if;
  return jsonb_build_object(
      'tenant_id', p_tenant_id, 'user_id', p_to_user_id, 'amount', internal.points_text(p_amount),
      'new_wallet_balance', internal.points_text(v_entry.balance_after), 'ledger_entry_id', v_id)
    || case when v_outcome = 'replayed' then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

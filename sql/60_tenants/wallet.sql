-- What a member has and had: {tenant_id, user_id, balance, lifetime_earned, lifetime_spent, entries}, the last ten entries
-- of their statement, newest first.
--
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.wallet(p_user_id uuid, p_tenant_id uuid default null)
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
  v_wallet public.wallets;
begin
  select w.* into v_wallet from public.wallets as w where w.tenant_id = v_tenant_id and w.user_id = p_user_id;
  return jsonb_build_object(
    'tenant_id', v_tenant_id, 'user_id', p_user_id,
    'balance', internal.points_text(coalesce(v_wallet.balance, 0)),
    'lifetime_earned', internal.points_text(coalesce(v_wallet.lifetime_earned, 0)),
    'lifetime_spent', internal.points_text(coalesce(v_wallet.lifetime_spent, 0)),
    'entries', coalesce((
      select jsonb_agg(jsonb_build_object(
               'id', l.id, 'transaction_type', l.transaction_type, 'source', l.source, 'points', internal.points_text(l.points),
               'balance_after', internal.points_text(l.balance_after), 'reference_type', l.reference_type,
               'reference_id', l.reference_id, 'description', l.description, 'created_by', l.created_by,
               'created_at', l.created_at) order by l.created_at desc, l.id desc)
        from (select x.* from public.wallet_ledger as x
               where x.tenant_id = v_tenant_id and x.user_id = p_user_id
               order by x.created_at desc, x.id desc
               limit 10) as l), '[]'));
end
$$;

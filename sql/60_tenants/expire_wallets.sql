-- Ends what was not spent in time, of at most p_limit wallets of the tenants whose policy says that it ends; returns
-- {"looked_at": wallets, "points": text}. Where a tenant's policy says 'never', as it does unless somebody changed it,
-- wallets are for ever.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   internal.expire_wallet_lots of all of them.
-- Refuses: nothing.

create or replace function public.expire_wallets(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tenant_ids uuid[];
  v_user_ids uuid[];
begin
  select coalesce(array_agg(d.tenant_id), '{}'), coalesce(array_agg(d.user_id), '{}')
    into v_tenant_ids, v_user_ids
    from (select w.tenant_id, w.user_id
            from public.tenants as t
           cross join lateral (
                 select x.tenant_id, x.user_id
                   from public.wallets as x
                  where x.tenant_id = t.id and x.oldest_lot_at <= v_now - internal.wallet_term(t.wallet_expiry_policy)
                    and x.oldest_lot_at < 'infinity'
                  order by x.oldest_lot_at
                  limit p_limit) as w
           where t.wallet_expiry_policy <> 'never'
           limit p_limit) as d;
  return jsonb_build_object(
    'looked_at', cardinality(v_tenant_ids),
    'points', internal.points_text(internal.expire_wallet_lots(v_tenant_ids, v_user_ids)));
end
$$;

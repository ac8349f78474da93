-- Ends what was not spent in time of these wallets, tenant and user in the same places, and returns how many points that
-- were. Every credit of a wallet's statement is a lot, and the oldest is spent first: of the lots whose time is up there is
-- left what they brought less all that was ever taken. A refund is a new lot.
--
-- Replay:  what expired is taken; a second look finds nothing.
-- Locks:   the wallets' accounts, in order; then what internal.move_tenant_points locks.
-- Refuses: nothing.

create or replace function internal.expire_wallet_lots(p_tenant_ids uuid[], p_user_ids uuid[])
returns numeric
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_moves internal.tenant_movement[];
begin
  perform
     from (select d.tenant_id, 'tenant.wallet:' || d.user_id as account
             from unnest(p_tenant_ids, p_user_ids) as d(tenant_id, user_id)
            order by 1, 2) as d
    cross join lateral (
          select from ledger.accounts as a where a.book_id = d.tenant_id and a.account = d.account for update) as locked;

  v_moves := array(
    select internal.tenant_move(
             d.tenant_id, 'tenant.wallet:' || d.user_id, 'tenant.expired', e.points, 'expiry', 'wallet', w.id,
             p_wallet_source => 'expiry', p_description => 'Not spent in time', p_created_at => v_now)
      from unnest(p_tenant_ids, p_user_ids) as d(tenant_id, user_id)
      join public.tenants as t on t.id = d.tenant_id
      join public.wallets as w on w.tenant_id = d.tenant_id and w.user_id = d.user_id
     cross join lateral (
           select sum(case when l.transaction_type = 'debit' then -l.points
                           when l.created_at <= v_now - internal.wallet_term(t.wallet_expiry_policy) then l.points end) as points
             from public.wallet_ledger as l
            where l.tenant_id = d.tenant_id and l.user_id = d.user_id) as e
     where t.wallet_expiry_policy <> 'never' and e.points > 0
     order by d.tenant_id, d.user_id);
  if cardinality(v_moves) > 0 then
    perform from internal.move_tenant_points(v_moves);
  end if;

  -- From when the oldest is that is left. Where nothing is, whatever comes will come later than now.
  update public.wallets as w
     set oldest_lot_at = o.oldest_at
    from (
      select d.tenant_id, d.user_id, coalesce(min(c.created_at) filter (where c.upto > c.taken), v_now) as oldest_at
        from unnest(p_tenant_ids, p_user_ids) as d(tenant_id, user_id)
        left join lateral (
             select l.created_at, l.transaction_type,
                    sum(l.points) filter (where l.transaction_type = 'credit') over (order by l.created_at, l.id) as upto,
                    coalesce(sum(l.points) filter (where l.transaction_type = 'debit') over (), 0) as taken
               from public.wallet_ledger as l
              where l.tenant_id = d.tenant_id and l.user_id = d.user_id) as c on c.transaction_type = 'credit'
       group by d.tenant_id, d.user_id) as o
   where w.tenant_id = o.tenant_id and w.user_id = o.user_id;
  return coalesce((select sum(m.amount) from unnest(v_moves) as m), 0);
end
$$;

-- Moves points of tenants for a set of movements, and keeps what tells of them equal to the ledger: pools, leads' and
-- departments' budgets, wallets, and the wallets' statements. The only way a tenant's points move.
-- The pool is the tenant's hot row: it is locked when the ledger posts and written last.
--
-- Replay:  a movement whose transfer is in the book moves nothing again.
-- Locks:   the accounts, in order; then the cache rows: wallets, members, departments, the tenant.
-- Refuses: insufficient_funds, as an outcome. Movements are taken in their order; what is refused leaves room for the next.

create or replace function internal.move_tenant_points(p_moves internal.tenant_movement[])
returns setof internal.tenant_moved
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_posted ledger.posted[];
  v_legs internal.tenant_leg[];
  v_has_wallets boolean;
  v_has_first_points boolean;
  v_has_leads boolean;
  v_has_budgets boolean;
  v_has_pools boolean;
begin
  v_posted := array(
    select o
      from ledger.post(array(
             select row(m.id, m.tenant_id, m.from_account, m.to_account, (m.amount * 100)::bigint, m.kind, m.source_type,
                        m.source_id, m.created_at)::ledger.posting
               from unnest(p_moves) with ordinality as m
              order by m.ordinality)) as o
     order by o.position);

  -- What stood in an account after each movement: what stands there now, less what came later in the set.
  select array_agg(l::internal.tenant_leg), bool_or(l.kind = 'tenant.wallet'), bool_or(l.kind = 'tenant.wallet' and l.balance = l.delta),
         bool_or(l.kind = 'tenant.lead'), bool_or(l.kind = 'tenant.budget'), bool_or(l.kind = 'tenant.pool')
    into v_legs, v_has_wallets, v_has_first_points, v_has_leads, v_has_budgets, v_has_pools
    from (
      select m.ordinality::int as position, l.is_to, m.tenant_id, split_part(l.account, ':', 1) as kind,
             nullif(split_part(l.account, ':', 2), '')::uuid as owner, l.delta::numeric(15, 2) as delta,
             (l.available / 100.0 - coalesce(sum(l.delta) over (
               partition by m.tenant_id, l.account order by m.ordinality desc rows between unbounded preceding and 1 preceding), 0)
             )::numeric(15, 2) as balance,
             m.id, m.wallet_source, m.source_type, m.source_id, m.description, m.created_by, m.created_at
        from rows from (unnest(p_moves), unnest(v_posted)) with ordinality as m(
               tenant_id, id, from_account, to_account, amount, kind, source_type, source_id, wallet_source, description, created_by,
               created_at, position, transfer_id, outcome, from_available, to_available, ordinality)
       cross join lateral (values (false, m.from_account, -m.amount, m.from_available), (true, m.to_account, m.amount, m.to_available))
                          as l(is_to, account, delta, available)
       where m.outcome = 'posted') as l;

  if v_has_first_points then
    -- Who held nothing before may have had no wallet.
    insert into public.wallets as w (tenant_id, user_id, created_at, updated_at)
    select distinct l.tenant_id, l.owner, v_now, v_now
      from unnest(v_legs) as l
     where l.kind = 'tenant.wallet' and l.balance = l.delta
    on conflict (tenant_id, user_id) do nothing;
  end if;

  if v_has_wallets then
    update public.wallets as w
       set balance = w.balance + e.delta, lifetime_earned = w.lifetime_earned + e.earned, lifetime_spent = w.lifetime_spent + e.spent,
           updated_at = v_now
      from (select l.tenant_id, l.owner, sum(l.delta) as delta, sum(greatest(l.delta, 0)) as earned, sum(greatest(-l.delta, 0)) as spent
              from unnest(v_legs) as l
             where l.kind = 'tenant.wallet'
             group by l.tenant_id, l.owner) as e
     where w.tenant_id = e.tenant_id and w.user_id = e.owner;

    insert into public.wallet_ledger (
           tenant_id, id, wallet_id, user_id, transaction_type, source, points, balance_after, reference_type, reference_id,
           description, created_by, created_at)
    select l.tenant_id, l.id, w.id, l.owner, case when l.delta > 0 then 'credit' else 'debit' end, l.wallet_source, abs(l.delta),
           l.balance, l.source_type, l.source_id, l.description, l.created_by, l.created_at
      from unnest(v_legs) as l
     cross join lateral (
           select x.id from public.wallets as x where x.tenant_id = l.tenant_id and x.user_id = l.owner limit 1) as w
     where l.kind = 'tenant.wallet';
  end if;

  if v_has_leads then
    update public.tenant_members as x
       set lead_distribution_balance = x.lead_distribution_balance + d.delta, updated_at = v_now
      from (select l.tenant_id, l.owner, sum(l.delta) as delta
              from unnest(v_legs) as l
             where l.kind = 'tenant.lead'
             group by l.tenant_id, l.owner) as d
     where x.tenant_id = d.tenant_id and x.user_id = d.owner;
  end if;

  if v_has_budgets then
    update public.departments as x
       set budget_balance = x.budget_balance + d.delta
      from (select l.tenant_id, l.owner, sum(l.delta) as delta
              from unnest(v_legs) as l
             where l.kind = 'tenant.budget'
             group by l.tenant_id, l.owner) as d
     where x.tenant_id = d.tenant_id and x.id = d.owner;
  end if;

  if v_has_pools then
    update public.tenants as x
       set points_allocation_balance = x.points_allocation_balance + d.delta, updated_at = v_now
      from (select l.tenant_id, sum(l.delta) as delta
              from unnest(v_legs) as l
             where l.kind = 'tenant.pool'
             group by l.tenant_id
             order by l.tenant_id) as d
     where x.id = d.tenant_id;
  end if;

  return query
  select o.position, o.transfer_id, o.outcome, l.from_balance::numeric(15, 2), l.to_balance::numeric(15, 2)
    from unnest(v_posted) as o
    left join (
         select x.position, min(x.balance) filter (where not x.is_to) as from_balance, min(x.balance) filter (where x.is_to) as to_balance
           from unnest(v_legs) as x
          group by x.position) as l on l.position = o.position;
end
$$;

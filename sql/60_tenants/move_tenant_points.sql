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
begin
  v_posted := array(
    select o
      from ledger.post(array(
             select row(m.id, m.tenant_id, m.from_account, m.to_account, (m.amount * 100)::bigint, m.kind, m.source_type,
                        m.source_id, m.created_at)::ledger.posting
               from unnest(p_moves) with ordinality as m
              order by m.ordinality)) as o);

  return query
  with move as materialized (
    select m.*, o.outcome, o.from_available, o.to_available
      from unnest(p_moves) with ordinality as m
      join unnest(v_posted) as o on o.transfer_id = m.id
  ), leg as materialized (
    select m.tenant_id, m.id, m.ordinality, split_part(l.account, ':', 1) as kind, nullif(split_part(l.account, ':', 2), '')::uuid as owner,
           l.delta, m.wallet_source, m.source_type, m.source_id, m.description, m.created_by, m.created_at
      from move as m
     cross join lateral (values (m.from_account, -m.amount), (m.to_account, m.amount)) as l(account, delta)
     where m.outcome = 'posted'
  ), earned as materialized (
    insert into public.wallets as w (tenant_id, user_id, id, balance, lifetime_earned, lifetime_spent, created_at, updated_at)
    -- What is proposed must be possible, also where it only takes from a wallet that is there.
    select l.tenant_id, l.owner, gen_random_uuid(), greatest(sum(l.delta), 0), sum(greatest(l.delta, 0)), sum(greatest(-l.delta, 0)), v_now, v_now
      from leg as l
     where l.kind = 'tenant.wallet'
     group by l.tenant_id, l.owner
     order by l.tenant_id, l.owner
    on conflict (tenant_id, user_id) do update
       set balance         = w.balance + excluded.lifetime_earned - excluded.lifetime_spent,
           lifetime_earned = w.lifetime_earned + excluded.lifetime_earned,
           lifetime_spent  = w.lifetime_spent + excluded.lifetime_spent,
           updated_at      = excluded.updated_at
    returning w.tenant_id, w.user_id, w.id, w.balance
  ), told as (
    -- What stood in the wallet after each entry: what stands there now, less what came later in the set.
    insert into public.wallet_ledger (
           tenant_id, id, wallet_id, user_id, transaction_type, source, points, balance_after, reference_type, reference_id,
           description, created_by, created_at)
    select l.tenant_id, l.id, e.id, l.owner, case when l.delta > 0 then 'credit' else 'debit' end, l.wallet_source, abs(l.delta),
           e.balance - coalesce(sum(l.delta) over (
             partition by l.tenant_id, l.owner order by l.ordinality desc rows between unbounded preceding and 1 preceding), 0),
           l.source_type, l.source_id, l.description, l.created_by, l.created_at
      from leg as l
      join earned as e on e.tenant_id = l.tenant_id and e.user_id = l.owner
     where l.kind = 'tenant.wallet'
  ), led as (
    update public.tenant_members as x
       set lead_distribution_balance = x.lead_distribution_balance + d.delta, updated_at = v_now
      from (select l.tenant_id, l.owner, sum(l.delta) as delta from leg as l where l.kind = 'tenant.lead' group by l.tenant_id, l.owner) as d
     where x.tenant_id = d.tenant_id and x.user_id = d.owner
  ), budgeted as (
    update public.departments as x
       set budget_balance = x.budget_balance + d.delta
      from (select l.tenant_id, l.owner, sum(l.delta) as delta from leg as l where l.kind = 'tenant.budget' group by l.tenant_id, l.owner) as d
     where x.tenant_id = d.tenant_id and x.id = d.owner
  ), pooled as (
    update public.tenants as x
       set points_allocation_balance = x.points_allocation_balance + d.delta, updated_at = v_now
      from (select l.tenant_id, sum(l.delta) as delta from leg as l where l.kind = 'tenant.pool' group by l.tenant_id order by 1) as d
     where x.id = d.tenant_id
  )
  select m.ordinality::int, m.id, m.outcome, (m.from_available / 100.0)::numeric(15, 2), (m.to_available / 100.0)::numeric(15, 2)
    from move as m
   order by m.ordinality;
end
$$;

-- What is in tenants' pools, by how it came: each allocation, and each adjustment upwards, what of it is left, and when
-- that ends. First come, first spent: what a pool holds is of its latest lots. What was taken back or expired was of the
-- allocation that it names. Nothing of this is stored; an allocation's row says what was taken of it by name. What comes
-- back from leads and members goes to the lots it was of.

create or replace function internal.pool_lots(p_tenant_ids uuid[])
returns table (tenant_id uuid, id uuid, is_allocation boolean, amount numeric, remaining numeric, created_at timestamptz, expires_at timestamptz)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return query
  with lot as (
    select l.tenant_id, l.id, true as is_allocation, l.amount, l.amount - l.reversed_amount - l.expired_amount as kept, l.created_at,
           l.expires_at
      from public.allocation_logs as l
     where l.tenant_id = any (p_tenant_ids)
    union all
    select b.tenant_id, b.id, false, b.amount, b.amount, b.created_at, null
      from public.platform_billing_logs as b
     where b.tenant_id = any (p_tenant_ids) and b.transaction_type = 'ADJUSTMENT' and b.amount > 0
       -- A row that somebody wrote by hand moved nothing.
       and exists (select from ledger.transfers as t where t.book_id = b.tenant_id and t.transfer_id = b.id)
  ), later as (
    select l.*, coalesce(sum(l.kept) over (
             partition by l.tenant_id order by l.created_at desc, l.id desc rows between unbounded preceding and 1 preceding), 0) as kept_later
      from lot as l
  )
  select l.tenant_id, l.id, l.is_allocation, l.amount,
         greatest(0, least(l.kept, coalesce(a.balance, 0) / 100.0 - l.kept_later))::numeric(15, 2), l.created_at, l.expires_at
    from later as l
    left join lateral (
         select x.balance from ledger.accounts as x where x.book_id = l.tenant_id and x.account = 'tenant.pool' limit 1) as a on true;
end
$$;

-- What tenants did with their points of late, who gave most first: what was allocated, what reached wallets by awards and
-- recognitions, what was redeemed, and what the pool holds. What a member gives on to another was awarded before, and what was
-- revoked was not. `used` is the share of awarded and held that was awarded, in percent.

create or replace function public.report_usage_by_tenant(p_since interval default '30 days')
returns table (name text, allocated numeric, awarded numeric, awards bigint, recipients bigint, redeemed numeric, balance numeric, used numeric, tenant_id uuid)
language sql stable
set search_path = ''
as $$
  select t.name, coalesce(a.amount, 0), coalesce(w.awarded, 0), coalesce(w.awards, 0), coalesce(w.recipients, 0), coalesce(w.redeemed, 0),
         t.points_allocation_balance,
         round(100 * coalesce(w.awarded, 0) / nullif(coalesce(w.awarded, 0) + t.points_allocation_balance, 0), 2), t.id
    from public.tenants as t
    left join (select x.tenant_id, sum(x.amount) as amount
                 from public.allocation_logs as x
                where x.created_at >= internal.clock() - p_since
                group by x.tenant_id) as a on a.tenant_id = t.id
    left join (select x.tenant_id, sum(x.points) filter (where x.is_award) as awarded, count(*) filter (where x.is_award) as awards,
                      count(distinct x.user_id) filter (where x.is_award) as recipients,
                      sum(x.points) filter (where x.transaction_type = 'debit' and x.source = 'redemption') as redeemed
                 from (select l.tenant_id, l.user_id, l.points, l.transaction_type, l.source,
                              l.transaction_type = 'credit' and l.source = 'recognition'
                                and r.funded_by is distinct from 'wallet' and r.status is distinct from 'revoked' as is_award
                         from public.wallet_ledger as l
                         left join public.recognitions as r on r.tenant_id = l.tenant_id and r.id = l.reference_id
                        where l.created_at >= internal.clock() - p_since) as x
                group by x.tenant_id) as w on w.tenant_id = t.id
   order by coalesce(w.awarded, 0) desc, t.name, t.id
$$;

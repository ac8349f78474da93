-- Allocations of the last day above what allocation_limits.large_allocation_above says, whatever the tenant's currency; none
-- where that is null. The database's setting tallybook.large_allocation names another threshold for who looks:
-- alter database postgres set tallybook.large_allocation = '500000'.

create or replace view public.tenant_large_allocations
with (security_invoker = true)
as
select a.tenant_id, t.name, a.id as allocation_id, a.amount, a.currency, a.status, a.allocated_by, a.actor, a.reference_note, a.created_at
  from public.allocation_logs as a
  join public.tenants as t on t.id = a.tenant_id
 where a.created_at > (select internal.clock()) - interval '1 day'
   and a.amount > coalesce(nullif(current_setting('tallybook.large_allocation', true), '')::numeric,
                           (select l.large_allocation_above from public.allocation_limits as l));

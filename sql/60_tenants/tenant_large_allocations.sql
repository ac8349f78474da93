-- Allocations of the last day above 1,000,000 points, whatever the tenant's currency; the database's setting
-- tallybook.large_allocation names another threshold:
-- alter database postgres set tallybook.large_allocation = '500000'.

create or replace view public.tenant_large_allocations
with (security_invoker = true)
as
select a.tenant_id, t.name, a.id as allocation_id, a.amount, a.currency, a.status, a.allocated_by, a.actor, a.reference_note, a.created_at
  from public.allocation_logs as a
  join public.tenants as t on t.id = a.tenant_id
 where a.created_at > (select internal.clock()) - interval '1 day'
   and a.amount > coalesce(nullif(current_setting('tallybook.large_allocation', true), ''), '1000000')::numeric;

-- Where tenants disagree with the ledger, as `tallybook verify` has it: the yearly audit of all transactions, any day.

create or replace function public.report_tenant_audit()
returns table (invariant text, tenant_id uuid, subject text, expected text, actual text)
language sql stable
set search_path = ''
as $$
  select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.tenant_discrepancies as d order by 1, 2, 3
$$;

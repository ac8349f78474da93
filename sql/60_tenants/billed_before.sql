-- The row of the platform's trail that was written under a key of the tenant's, or none. The pool is locked.
--
-- Refuses: nonce_reused, when it came with another request; invalid_body.

create or replace function internal.billed_before(p_tenant_id uuid, p_idempotency_key text, p_request_hash text)
returns public.platform_billing_logs
language plpgsql stable
set search_path = ''
as $$
declare
  v_bill public.platform_billing_logs;
begin
  if length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  end if;
  select l.* into v_bill
    from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.idempotency_key = p_idempotency_key;
  if v_bill.id is not null and v_bill.request_hash is distinct from p_request_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;
  return v_bill;
end
$$;

-- What a tenant's pool holds, which is locked until the transaction ends.
--
-- Locks:   internal.lock_pools.
-- Refuses: tenant_not_found.

create or replace function internal.locked_pool(p_tenant_id uuid)
returns numeric
language plpgsql volatile
set search_path = ''
as $$
begin
  perform from public.tenants as t where t.id = p_tenant_id;
  if not found then
    perform internal.refuse('tenant_not_found');
  end if;
  return (select l.balance from internal.lock_pools(array[p_tenant_id]) as l);
end
$$;

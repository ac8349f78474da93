-- A page of what was allocated to tenants, the newest first unless another order is asked for.
-- A manager sees their own tenant's, an administrator and a program one tenant's or everybody's.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, tenant_not_found, invalid_body.

create or replace function public.allocation_logs_page(
  p_user_id    uuid,
  p_tenant_id  uuid default null,
  p_status     text default null,
  p_search     text default null,
  p_amount_min numeric default null,
  p_amount_max numeric default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null,
  p_sort       text default 'created_at',
  p_direction  text default 'desc',
  p_page       int default null,
  p_limit      int default 25,
  p_cursor     text default null,
  p_with_total boolean default false
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := internal.managed_tenant(p_user_id, p_tenant_id);
begin
  if p_status not in ('COMPLETED', 'REVOKED', 'EXPIRED') then
    perform internal.refuse('invalid_body', 'status: must be COMPLETED, REVOKED or EXPIRED');
  end if;
  return internal.tenant_log_page(
    'allocation_logs', v_tenant_id, p_status, null, null, p_search, p_amount_min, p_amount_max, p_start_date, p_end_date,
    p_sort, p_direction, p_page, p_limit, p_cursor, p_with_total);
end
$$;

-- A page of the statements of wallets, of all members or of one.
-- A manager sees their own tenant's, an administrator and a program one tenant's or everybody's.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, tenant_not_found, invalid_body.

create or replace function public.wallet_ledger_page(
  p_user_id    uuid,
  p_tenant_id  uuid default null,
  p_type       text default null,
  p_source     text default null,
  p_member_id  uuid default null,
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
  if p_type not in ('credit', 'debit') then
    perform internal.refuse('invalid_body', 'type: must be credit or debit');
  elsif p_source not in ('hr_allocation', 'recognition', 'redemption', 'adjustment', 'expiry', 'reversal') then
    perform internal.refuse('invalid_body', 'source: must be hr_allocation, recognition, redemption, adjustment, expiry or reversal');
  end if;
  return internal.tenant_log_page(
    'wallet_ledger', v_tenant_id, p_type, p_source, p_member_id, p_search, p_amount_min, p_amount_max, p_start_date, p_end_date,
    p_sort, p_direction, p_page, p_limit, p_cursor, p_with_total);
end
$$;

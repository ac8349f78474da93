-- Opens a tenant with an empty pool, and makes a first manager where an account is named. An administrator's or a
-- program's. Returns {tenant_id, name, currency, currency_label, points_allocation_balance, manager}.
--
-- Replay:  a tenant's id may be the caller's own: the same again is answered with "replayed".
-- Locks:   none.
-- Refuses: forbidden, invalid_body, user_not_found, nonce_reused.

create or replace function public.create_tenant(
  p_user_id         uuid,
  p_name            text,
  p_currency        text default 'INR',
  p_currency_label  text default 'Points',
  p_manager_account text default null,
  p_tenant_id       uuid default null,
  p_reason          text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_manager uuid;
  v_tenant public.tenants;
  v_replayed boolean;
  v_answer jsonb;
begin
  if coalesce(p_name, '') !~ '\S' then
    perform internal.refuse('invalid_body', 'name: must be a name');
  elsif coalesce(p_currency, '') !~ '^[A-Z]{3}$' then
    perform internal.refuse('invalid_body', 'currency: must be three capital letters');
  elsif coalesce(p_currency_label, '') !~ '\S' then
    perform internal.refuse('invalid_body', 'currency_label: must be a name');
  end if;
  if p_manager_account is not null then
    v_manager := internal.user_of_account(p_manager_account);
  end if;

  insert into public.tenants as t (id, name, currency, currency_label)
  values (coalesce(p_tenant_id, internal.uuidv7()), p_name, p_currency, p_currency_label)
  on conflict (id) do nothing
  returning t.* into v_tenant;
  v_replayed := not found;
  if v_replayed then
    select t.* into v_tenant from public.tenants as t where t.id = p_tenant_id;
    if (v_tenant.name, v_tenant.currency, v_tenant.currency_label) is distinct from (p_name, p_currency, p_currency_label) then
      perform internal.refuse('nonce_reused', 'tenant_id: there is another tenant under this id');
    end if;
  elsif v_manager is not null then
    insert into public.tenant_members (tenant_id, user_id, role) values (v_tenant.id, v_manager, 'tenant_manager');
  end if;

  v_answer := jsonb_build_object(
    'tenant_id', v_tenant.id, 'name', v_tenant.name, 'currency', v_tenant.currency, 'currency_label', v_tenant.currency_label,
    'points_allocation_balance', internal.points_text(v_tenant.points_allocation_balance), 'manager', v_manager);
  if v_replayed then
    return v_answer || '{"replayed": true}';
  end if;
  perform internal.audit(v_actor, 'tenant.create', 'tenant', v_tenant.id::text, p_reason, null, v_answer, p_request_id);
  return v_answer;
end
$$;

-- What a tenant has to give, as its people are shown it, with the budget and the wallet of whoever looks. Members see their
-- own tenant; an administrator and a program name one.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden (no member), invalid_body (several tenants, or none named), tenant_not_found.

create or replace function public.tenant_allocation_stats(p_user_id uuid, p_tenant_id uuid default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_named boolean := p_tenant_id is not null;
  v_member public.tenant_members;
  v_tenant public.tenants;
  v_wallet numeric(15, 2);
  v_status text;
begin
  if p_user_id is null and not v_named then
    perform internal.refuse('invalid_body', 'tenant_id: a program must name the tenant');
  elsif p_user_id is null
     or v_named and exists (select from public.system_admins as a where a.id = p_user_id and a.is_active) then
    perform internal.act_for(array[p_tenant_id]);
    v_member.tenant_id := p_tenant_id;
  else
    v_member := internal.membership(p_user_id, p_tenant_id);
  end if;

  select t.* into v_tenant from public.tenants as t where t.id = v_member.tenant_id;
  if v_tenant.id is null then
    perform internal.refuse('tenant_not_found');
  end if;
  select w.balance into v_wallet from public.wallets as w where w.tenant_id = v_tenant.id and w.user_id = v_member.user_id;
  v_status := case when v_tenant.points_allocation_balance <= 0 then 'empty'
                   when v_tenant.points_allocation_balance < v_tenant.low_balance_threshold then 'low'
                   else 'ready' end;

  return jsonb_build_object(
    'tenant_id', v_tenant.id,
    'tenant_name', v_tenant.name,
    'points_allocation_balance', internal.points_text(v_tenant.points_allocation_balance),
    'currency', v_tenant.currency,
    'currency_label', v_tenant.currency_label,
    'status', v_status,
    'message', case v_status
       when 'empty' then 'No points available. Please contact Platform Admin.'
       when 'low' then format('The balance is low: %s %s left. Ask Platform Admin for more in time.',
                              internal.points_text(v_tenant.points_allocation_balance), v_tenant.currency_label)
       else format('Ready to give: %s %s available.', internal.points_text(v_tenant.points_allocation_balance), v_tenant.currency_label) end,
    'low_balance_threshold', internal.points_text(v_tenant.low_balance_threshold),
    'allocation_mode', v_tenant.allocation_mode,
    'redemptions_paused', v_tenant.redemptions_paused,
    'role', v_member.role,
    'lead_distribution_balance', internal.points_text(v_member.lead_distribution_balance),
    'wallet_balance', case when v_member.user_id is not null then internal.points_text(coalesce(v_wallet, 0)) end);
end
$$;

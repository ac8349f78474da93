-- What must not be: anything of a tenant that is below zero. Always empty, because a CHECK forbids each; critical if not.

create or replace view public.tenant_balances_below_zero
with (security_invoker = true)
as
select t.id as tenant_id, 'pool' as what, t.id as owner_id, t.points_allocation_balance as balance
  from public.tenants as t where t.points_allocation_balance < 0
union all
select m.tenant_id, 'lead', m.user_id, m.lead_distribution_balance from public.tenant_members as m where m.lead_distribution_balance < 0
union all
select d.tenant_id, 'department', d.id, d.budget_balance from public.departments as d where d.budget_balance < 0
union all
select w.tenant_id, 'wallet', w.user_id, w.balance from public.wallets as w where w.balance < 0;

-- Tenants: a member reads what is theirs and what their company shares, a manager what is the company's; procedures write,
-- an operator sets tenants and members up.

revoke all on
  public.tenants, public.departments, public.tenant_members, public.allocation_logs, public.platform_billing_logs, public.wallets, public.wallet_ledger, public.recognitions, public.recognition_groups, public.rewards, public.reward_redemptions, public.tenant_alerts,
  public.recognition_recipients, internal.tenant_discrepancies
from public, anon, authenticated, service_role;

grant select on
  public.tenants, public.departments, public.tenant_members, public.allocation_logs, public.platform_billing_logs, public.wallets, public.wallet_ledger, public.recognitions, public.recognition_groups, public.rewards, public.reward_redemptions, public.tenant_alerts
to authenticated, service_role, tallybook_operator;
grant select, insert, update on
  public.tenants, public.departments, public.tenant_members, public.allocation_logs, public.platform_billing_logs, public.wallets, public.wallet_ledger, public.recognitions, public.recognition_groups, public.rewards, public.reward_redemptions, public.tenant_alerts
to tallybook_procedures, tallybook_upkeep;
grant insert, update on public.tenants, public.departments, public.tenant_members, public.rewards to tallybook_operator;
grant select on public.recognition_recipients to authenticated, service_role, tallybook_operator, tallybook_procedures, tallybook_upkeep;
grant select on internal.tenant_discrepancies to tallybook_operator;

alter table public.tenants enable row level security;
alter table public.tenants force row level security;
alter table public.departments enable row level security;
alter table public.departments force row level security;
alter table public.tenant_members enable row level security;
alter table public.tenant_members force row level security;
alter table public.allocation_logs enable row level security;
alter table public.allocation_logs force row level security;
alter table public.platform_billing_logs enable row level security;
alter table public.platform_billing_logs force row level security;
alter table public.wallets enable row level security;
alter table public.wallets force row level security;
alter table public.wallet_ledger enable row level security;
alter table public.wallet_ledger force row level security;
alter table public.recognitions enable row level security;
alter table public.recognitions force row level security;
alter table public.recognition_groups enable row level security;
alter table public.recognition_groups force row level security;
alter table public.rewards enable row level security;
alter table public.rewards force row level security;
alter table public.reward_redemptions enable row level security;
alter table public.reward_redemptions force row level security;
alter table public.tenant_alerts enable row level security;
alter table public.tenant_alerts force row level security;

drop policy if exists "a member reads their own company's row" on public.tenants;
create policy "a member reads their own company's row" on public.tenants for select to authenticated
  -- Not by internal.member_tenants(), which asks here whether a tenant is active.
  using (is_active and id = any (array(
    select m.tenant_id from public.tenant_members as m where m.user_id = (select internal.caller_id()) and m.is_active)));
drop policy if exists "a procedure touches the tenants of its subjects" on public.tenants;
create policy "a procedure touches the tenants of its subjects" on public.tenants to tallybook_procedures
  using ((id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all tenants" on public.tenants;
create policy "upkeep sees all tenants" on public.tenants to tallybook_upkeep using (true);
drop policy if exists "the service reads all tenants" on public.tenants;
create policy "the service reads all tenants" on public.tenants for select to service_role using (true);
drop policy if exists "an operator sets all tenants" on public.tenants;
create policy "an operator sets all tenants" on public.tenants to tallybook_operator using (true);
drop policy if exists "a member reads their own company's departments" on public.departments;
create policy "a member reads their own company's departments" on public.departments for select to authenticated
  using (tenant_id = any ((select internal.member_tenants())::uuid[]));
drop policy if exists "a procedure touches the departments of its subjects" on public.departments;
create policy "a procedure touches the departments of its subjects" on public.departments to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all departments" on public.departments;
create policy "upkeep sees all departments" on public.departments to tallybook_upkeep using (true);
drop policy if exists "the service reads all departments" on public.departments;
create policy "the service reads all departments" on public.departments for select to service_role using (true);
drop policy if exists "an operator sets all departments" on public.departments;
create policy "an operator sets all departments" on public.departments to tallybook_operator using (true);
drop policy if exists "a member reads their own membership" on public.tenant_members;
create policy "a member reads their own membership" on public.tenant_members for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the members of its subjects" on public.tenant_members;
create policy "a procedure touches the members of its subjects" on public.tenant_members to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[]) or user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all members" on public.tenant_members;
create policy "upkeep sees all members" on public.tenant_members to tallybook_upkeep using (true);
drop policy if exists "the service reads all members" on public.tenant_members;
create policy "the service reads all members" on public.tenant_members for select to service_role using (true);
drop policy if exists "an operator sets all members" on public.tenant_members;
create policy "an operator sets all members" on public.tenant_members to tallybook_operator using (true);
drop policy if exists "a manager reads what was allocated to their company" on public.allocation_logs;
create policy "a manager reads what was allocated to their company" on public.allocation_logs for select to authenticated
  using (tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the allocations of its subjects" on public.allocation_logs;
create policy "a procedure touches the allocations of its subjects" on public.allocation_logs to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all allocations" on public.allocation_logs;
create policy "upkeep sees all allocations" on public.allocation_logs to tallybook_upkeep using (true);
drop policy if exists "the service reads all allocations" on public.allocation_logs;
create policy "the service reads all allocations" on public.allocation_logs for select to service_role using (true);
drop policy if exists "an operator sets all allocations" on public.allocation_logs;
create policy "an operator sets all allocations" on public.allocation_logs to tallybook_operator using (true);
drop policy if exists "a manager reads the billing of their company" on public.platform_billing_logs;
create policy "a manager reads the billing of their company" on public.platform_billing_logs for select to authenticated
  using (tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the billing of its subjects" on public.platform_billing_logs;
create policy "a procedure touches the billing of its subjects" on public.platform_billing_logs to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all billing" on public.platform_billing_logs;
create policy "upkeep sees all billing" on public.platform_billing_logs to tallybook_upkeep using (true);
drop policy if exists "the service reads all billing" on public.platform_billing_logs;
create policy "the service reads all billing" on public.platform_billing_logs for select to service_role using (true);
drop policy if exists "an operator sets all billing" on public.platform_billing_logs;
create policy "an operator sets all billing" on public.platform_billing_logs to tallybook_operator using (true);
drop policy if exists "a member reads their own wallet and a manager all" on public.wallets;
create policy "a member reads their own wallet and a manager all" on public.wallets for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the wallets of its subjects" on public.wallets;
create policy "a procedure touches the wallets of its subjects" on public.wallets to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all wallets" on public.wallets;
create policy "upkeep sees all wallets" on public.wallets to tallybook_upkeep using (true);
drop policy if exists "the service reads all wallets" on public.wallets;
create policy "the service reads all wallets" on public.wallets for select to service_role using (true);
drop policy if exists "an operator sets all wallets" on public.wallets;
create policy "an operator sets all wallets" on public.wallets to tallybook_operator using (true);
drop policy if exists "a member reads their own statement and a manager all" on public.wallet_ledger;
create policy "a member reads their own statement and a manager all" on public.wallet_ledger for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the wallet entries of its subjects" on public.wallet_ledger;
create policy "a procedure touches the wallet entries of its subjects" on public.wallet_ledger to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all wallet entries" on public.wallet_ledger;
create policy "upkeep sees all wallet entries" on public.wallet_ledger to tallybook_upkeep using (true);
drop policy if exists "the service reads all wallet entries" on public.wallet_ledger;
create policy "the service reads all wallet entries" on public.wallet_ledger for select to service_role using (true);
drop policy if exists "an operator sets all wallet entries" on public.wallet_ledger;
create policy "an operator sets all wallet entries" on public.wallet_ledger to tallybook_operator using (true);
drop policy if exists "a member reads what is public and what is their own" on public.recognitions;
create policy "a member reads what is public and what is their own" on public.recognitions for select to authenticated
  -- What public.list_recognitions shows. Whether it was given to them is looked up last.
  using (tenant_id = any ((select internal.managed_tenants())::uuid[])
         or tenant_id = any ((select internal.member_tenants())::uuid[])
            and (from_user_id = (select internal.caller_id())
                 or status = 'active' and (visibility = 'public'
                    or visibility = 'department' and department_id = any ((select internal.member_departments())::uuid[]))
                 or to_user_id = (select internal.caller_id())
                 or exists (select from public.recognition_groups as x
                             where x.tenant_id = recognitions.tenant_id and x.recognition_id = recognitions.id
                               and x.user_id = (select internal.caller_id()))));
drop policy if exists "a procedure touches the recognitions of its subjects" on public.recognitions;
create policy "a procedure touches the recognitions of its subjects" on public.recognitions to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all recognitions" on public.recognitions;
create policy "upkeep sees all recognitions" on public.recognitions to tallybook_upkeep using (true);
drop policy if exists "the service reads all recognitions" on public.recognitions;
create policy "the service reads all recognitions" on public.recognitions for select to service_role using (true);
drop policy if exists "an operator sets all recognitions" on public.recognitions;
create policy "an operator sets all recognitions" on public.recognitions to tallybook_operator using (true);
drop policy if exists "a member reads where they are among them and a manager all" on public.recognition_groups;
create policy "a member reads where they are among them and a manager all" on public.recognition_groups for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the recognized groups of its subjects" on public.recognition_groups;
create policy "a procedure touches the recognized groups of its subjects" on public.recognition_groups to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all recognized groups" on public.recognition_groups;
create policy "upkeep sees all recognized groups" on public.recognition_groups to tallybook_upkeep using (true);
drop policy if exists "the service reads all recognized groups" on public.recognition_groups;
create policy "the service reads all recognized groups" on public.recognition_groups for select to service_role using (true);
drop policy if exists "an operator sets all recognized groups" on public.recognition_groups;
create policy "an operator sets all recognized groups" on public.recognition_groups to tallybook_operator using (true);
drop policy if exists "a member reads what their company offers" on public.rewards;
create policy "a member reads what their company offers" on public.rewards for select to authenticated
  using (tenant_id = any ((select internal.member_tenants())::uuid[]) and is_active
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the rewards of its subjects" on public.rewards;
create policy "a procedure touches the rewards of its subjects" on public.rewards to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all rewards" on public.rewards;
create policy "upkeep sees all rewards" on public.rewards to tallybook_upkeep using (true);
drop policy if exists "the service reads all rewards" on public.rewards;
create policy "the service reads all rewards" on public.rewards for select to service_role using (true);
drop policy if exists "an operator sets all rewards" on public.rewards;
create policy "an operator sets all rewards" on public.rewards to tallybook_operator using (true);
drop policy if exists "a member reads what they redeemed and a manager all" on public.reward_redemptions;
create policy "a member reads what they redeemed and a manager all" on public.reward_redemptions for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the redeemed rewards of its subjects" on public.reward_redemptions;
create policy "a procedure touches the redeemed rewards of its subjects" on public.reward_redemptions to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all redeemed rewards" on public.reward_redemptions;
create policy "upkeep sees all redeemed rewards" on public.reward_redemptions to tallybook_upkeep using (true);
drop policy if exists "the service reads all redeemed rewards" on public.reward_redemptions;
create policy "the service reads all redeemed rewards" on public.reward_redemptions for select to service_role using (true);
drop policy if exists "an operator sets all redeemed rewards" on public.reward_redemptions;
create policy "an operator sets all redeemed rewards" on public.reward_redemptions to tallybook_operator using (true);
drop policy if exists "a manager reads their company's alerts" on public.tenant_alerts;
create policy "a manager reads their company's alerts" on public.tenant_alerts for select to authenticated
  using (tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the alerts of its subjects" on public.tenant_alerts;
create policy "a procedure touches the alerts of its subjects" on public.tenant_alerts to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all alerts" on public.tenant_alerts;
create policy "upkeep sees all alerts" on public.tenant_alerts to tallybook_upkeep using (true);
drop policy if exists "the service reads all alerts" on public.tenant_alerts;
create policy "the service reads all alerts" on public.tenant_alerts for select to service_role using (true);
drop policy if exists "an operator sets all alerts" on public.tenant_alerts;
create policy "an operator sets all alerts" on public.tenant_alerts to tallybook_operator using (true);

revoke all on function
  internal.tenant_move(uuid, text, text, numeric, text, text, uuid, uuid, text, text, uuid, timestamptz),
  internal.move_tenant_points(internal.tenant_movement[]), internal.adjust_tenant_pool(), internal.adjust_budget(), internal.keep_tenant(), internal.points_text(numeric),
  internal.member_tenants(), internal.member_departments(), internal.managed_tenants(), internal.membership(uuid, uuid)
from public, anon, authenticated, service_role;

grant execute on function
  internal.tenant_move(uuid, text, text, numeric, text, text, uuid, uuid, text, text, uuid, timestamptz),
  internal.move_tenant_points(internal.tenant_movement[]), internal.points_text(numeric)
to tallybook_procedures, tallybook_upkeep;
grant execute on function internal.membership(uuid, uuid) to tallybook_procedures;
alter function internal.adjust_tenant_pool() owner to tallybook_upkeep;
alter function internal.adjust_budget() owner to tallybook_upkeep;
alter function internal.keep_tenant() owner to tallybook_upkeep;
grant execute on function internal.member_tenants(), internal.member_departments(), internal.managed_tenants() to authenticated;

-- Wallets, rewards, and who is a member.
revoke all on function
  internal.managing(uuid, uuid, text), internal.wallet_term(text), internal.expire_wallet_lots(uuid[], uuid[]),
  internal.reward_json(public.rewards), internal.member_json(public.tenant_members), internal.department_json(public.departments),
  public.redeem_reward(uuid, uuid, uuid, text, text), public.refund_reward_redemption(uuid, uuid, text, uuid, text, text),
  public.rewards_catalogue(uuid, uuid), public.wallet(uuid, uuid), public.list_members(uuid, uuid, text, int, text), public.expire_wallets(int),
  public.set_reward(uuid, uuid, text, numeric, text, int, boolean, boolean, uuid, text, text, text),
  public.credit_wallet(uuid, uuid, uuid, numeric, text, text, uuid, text, text),
  public.set_member(uuid, text, text, uuid, boolean, text, boolean, uuid, text, text, text),
  public.set_department(uuid, uuid, text, numeric, boolean, uuid, text, text, text),
  public.create_tenant(uuid, text, text, text, text, uuid, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function
  internal.wallet_term(text), internal.expire_wallet_lots(uuid[], uuid[]), internal.reward_json(public.rewards)
to tallybook_procedures, tallybook_upkeep;
grant execute on function
  internal.managing(uuid, uuid, text), internal.member_json(public.tenant_members), internal.department_json(public.departments)
to tallybook_upkeep;
grant execute on function internal.member_json(public.tenant_members) to tallybook_procedures;

alter function public.redeem_reward(uuid, uuid, uuid, text, text) owner to tallybook_procedures;
alter function public.rewards_catalogue(uuid, uuid) owner to tallybook_procedures;
alter function public.wallet(uuid, uuid) owner to tallybook_procedures;
alter function public.list_members(uuid, uuid, text, int, text) owner to tallybook_procedures;
alter function public.refund_reward_redemption(uuid, uuid, text, uuid, text, text) owner to tallybook_upkeep;
alter function public.set_reward(uuid, uuid, text, numeric, text, int, boolean, boolean, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.credit_wallet(uuid, uuid, uuid, numeric, text, text, uuid, text, text) owner to tallybook_upkeep;
alter function public.expire_wallets(int) owner to tallybook_upkeep;
alter function public.set_member(uuid, text, text, uuid, boolean, text, boolean, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.set_department(uuid, uuid, text, numeric, boolean, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.create_tenant(uuid, text, text, text, text, uuid, text, text, text) owner to tallybook_upkeep;

grant execute on function
  public.redeem_reward(uuid, uuid, uuid, text, text), public.rewards_catalogue(uuid, uuid), public.wallet(uuid, uuid),
  public.list_members(uuid, uuid, text, int, text),
  public.refund_reward_redemption(uuid, uuid, text, uuid, text, text)
to tallybook_functions, service_role;
grant execute on function
  public.set_reward(uuid, uuid, text, numeric, text, int, boolean, boolean, uuid, text, text, text),
  public.credit_wallet(uuid, uuid, uuid, numeric, text, text, uuid, text, text),
  public.set_member(uuid, text, text, uuid, boolean, text, boolean, uuid, text, text, text),
  public.set_department(uuid, uuid, text, numeric, boolean, uuid, text, text, text),
  public.create_tenant(uuid, text, text, text, text, uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.expire_wallets(int) to service_role, tallybook_worker, tallybook_operator;

-- The platform's side: allocations, what is taken back, budgets of leads, and upkeep.
revoke all on public.allocation_limits, public.lead_delegations from public, anon, authenticated, service_role;
grant select on public.lead_delegations to authenticated, service_role, tallybook_operator;
grant select, insert on public.lead_delegations to tallybook_procedures, tallybook_upkeep;
grant select on public.allocation_limits to service_role, tallybook_upkeep;
grant select, update on public.allocation_limits to tallybook_operator;

alter table public.allocation_limits enable row level security;
alter table public.allocation_limits force row level security;
alter table public.lead_delegations enable row level security;
alter table public.lead_delegations force row level security;

drop policy if exists "upkeep and the service know the limits of allocations" on public.allocation_limits;
create policy "upkeep and the service know the limits of allocations" on public.allocation_limits for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator sets the limits of allocations" on public.allocation_limits;
create policy "an operator sets the limits of allocations" on public.allocation_limits to tallybook_operator using (true);
drop policy if exists "a lead reads what they were given and a manager all" on public.lead_delegations;
create policy "a lead reads what they were given and a manager all" on public.lead_delegations for select to authenticated
  using (lead_user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the delegations of its subjects" on public.lead_delegations;
create policy "a procedure touches the delegations of its subjects" on public.lead_delegations to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all delegations" on public.lead_delegations;
create policy "upkeep sees all delegations" on public.lead_delegations to tallybook_upkeep using (true);
drop policy if exists "the service and operators read all delegations" on public.lead_delegations;
create policy "the service and operators read all delegations" on public.lead_delegations for select
  to service_role, tallybook_operator using (true);

revoke all on function
  internal.lock_pools(uuid[]), internal.locked_pool(uuid), internal.bill_tenants(internal.tenant_bill[]),
  internal.billed_before(uuid, text, text), internal.points_refusal(numeric, text), internal.allocations_limit_detail(uuid, inet),
  internal.allocate_to_tenants(uuid, jsonb, text, inet, text, text, text), internal.pool_lots(uuid[]), internal.alert_tenant(),
  internal.move_lead_budget(public.tenant_members, uuid, numeric, boolean, text, text, text),
  public.allocate_to_tenant(uuid, uuid, numeric, text, text, text, inet, text, text),
  public.bulk_allocate_to_tenants(uuid, uuid[], numeric, jsonb, text, text, text, inet, text, text),
  public.clawback_allocation(uuid, uuid, numeric, text, text, text, text),
  public.reverse_allocation(uuid, uuid, uuid, numeric, text, text, text, text),
  public.adjust_tenant_pool_to(uuid, uuid, numeric, text, text, text, text),
  public.delegate_to_lead(uuid, uuid, numeric, text, uuid, text, text),
  public.recall_from_lead(uuid, uuid, numeric, text, uuid, text, text),
  public.expire_allocations(int), public.refill_pools(int)
from public, anon, authenticated, service_role;

grant execute on function internal.points_refusal(numeric, text) to tallybook_procedures, tallybook_upkeep;
grant execute on function
  internal.lock_pools(uuid[]), internal.locked_pool(uuid), internal.bill_tenants(internal.tenant_bill[]),
  internal.billed_before(uuid, text, text), internal.allocations_limit_detail(uuid, inet),
  internal.allocate_to_tenants(uuid, jsonb, text, inet, text, text, text), internal.pool_lots(uuid[])
to tallybook_upkeep;
grant execute on function internal.move_lead_budget(public.tenant_members, uuid, numeric, boolean, text, text, text)
to tallybook_procedures;

alter function internal.alert_tenant() owner to tallybook_upkeep;
alter function public.allocate_to_tenant(uuid, uuid, numeric, text, text, text, inet, text, text) owner to tallybook_upkeep;
alter function public.bulk_allocate_to_tenants(uuid, uuid[], numeric, jsonb, text, text, text, inet, text, text)
owner to tallybook_upkeep;
alter function public.clawback_allocation(uuid, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.reverse_allocation(uuid, uuid, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.adjust_tenant_pool_to(uuid, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.delegate_to_lead(uuid, uuid, numeric, text, uuid, text, text) owner to tallybook_procedures;
alter function public.recall_from_lead(uuid, uuid, numeric, text, uuid, text, text) owner to tallybook_procedures;
alter function public.expire_allocations(int) owner to tallybook_upkeep;
alter function public.refill_pools(int) owner to tallybook_upkeep;

grant execute on function
  public.allocate_to_tenant(uuid, uuid, numeric, text, text, text, inet, text, text),
  public.bulk_allocate_to_tenants(uuid, uuid[], numeric, jsonb, text, text, text, inet, text, text),
  public.clawback_allocation(uuid, uuid, numeric, text, text, text, text),
  public.reverse_allocation(uuid, uuid, uuid, numeric, text, text, text, text),
  public.adjust_tenant_pool_to(uuid, uuid, numeric, text, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function
  public.delegate_to_lead(uuid, uuid, numeric, text, uuid, text, text),
  public.recall_from_lead(uuid, uuid, numeric, text, uuid, text, text)
to tallybook_functions, service_role;
grant execute on function public.expire_allocations(int), public.refill_pools(int) to service_role, tallybook_worker, tallybook_operator;

-- Recognitions and awards.
revoke all on function
  internal.ask_recognitions(internal.recognition_request[]), internal.lock_departments(internal.recognition_ask[]),
  internal.fund_recognitions(internal.recognition_ask[]), internal.recall_recognitions(internal.recognition_ask[]),
  internal.recognize(internal.recognition_request[]), internal.give_recognition_batch(jsonb), internal.award_to_user_batch(jsonb),
  public.give_recognition(uuid, uuid[], numeric, text, text, text, text, text, uuid, text, text),
  public.award_to_user(uuid, uuid, numeric, text, uuid, text, text),
  public.revoke_recognition(uuid, uuid, text, uuid, text, text), public.list_recognitions(uuid, uuid, text, int, text)
from public, anon, authenticated, service_role;

alter function internal.give_recognition_batch(jsonb) owner to tallybook_procedures;
alter function internal.award_to_user_batch(jsonb) owner to tallybook_procedures;
alter function public.give_recognition(uuid, uuid[], numeric, text, text, text, text, text, uuid, text, text) owner to tallybook_procedures;
alter function public.award_to_user(uuid, uuid, numeric, text, uuid, text, text) owner to tallybook_procedures;
alter function public.revoke_recognition(uuid, uuid, text, uuid, text, text) owner to tallybook_procedures;
alter function public.list_recognitions(uuid, uuid, text, int, text) owner to tallybook_procedures;

grant execute on function
  internal.ask_recognitions(internal.recognition_request[]), internal.lock_departments(internal.recognition_ask[]),
  internal.fund_recognitions(internal.recognition_ask[]), internal.recall_recognitions(internal.recognition_ask[]),
  internal.recognize(internal.recognition_request[])
to tallybook_procedures;
grant execute on function internal.give_recognition_batch(jsonb), internal.award_to_user_batch(jsonb) to tallybook_functions;
grant execute on function
  public.give_recognition(uuid, uuid[], numeric, text, text, text, text, text, uuid, text, text),
  public.award_to_user(uuid, uuid, numeric, text, uuid, text, text),
  public.revoke_recognition(uuid, uuid, text, uuid, text, text), public.list_recognitions(uuid, uuid, text, int, text)
to tallybook_functions, service_role;
grant execute on function
  public.award_to_user(uuid, uuid, numeric, text, uuid, text, text), public.revoke_recognition(uuid, uuid, text, uuid, text, text)
to tallybook_operator;
-- Reading: statistics for members, the logs for managers, numbers for whoever watches.

revoke all on public.tenant_balances_below_zero, public.tenant_large_allocations from public, anon, authenticated, service_role;
grant select on public.tenant_balances_below_zero, public.tenant_large_allocations to service_role, tallybook_operator;

revoke all on function
  internal.managed_tenant(uuid, uuid),
  internal.tenant_log_page(text, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.tenant_allocation_stats(uuid, uuid),
  public.allocation_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.platform_billing_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.wallet_ledger_page(
    uuid, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.points_ledger_stats(uuid, uuid, timestamptz, timestamptz), public.allocation_metrics(int, int)
from public, anon, authenticated, service_role;

grant execute on function
  internal.membership(uuid, uuid), internal.managed_tenant(uuid, uuid),
  internal.tenant_log_page(text, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean)
to tallybook_upkeep;

alter function public.tenant_allocation_stats(uuid, uuid) owner to tallybook_procedures;
alter function public.allocation_logs_page(
  uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean) owner to tallybook_upkeep;
alter function public.platform_billing_logs_page(
  uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean) owner to tallybook_upkeep;
alter function public.wallet_ledger_page(
  uuid, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean)
owner to tallybook_upkeep;
alter function public.points_ledger_stats(uuid, uuid, timestamptz, timestamptz) owner to tallybook_upkeep;
alter function public.allocation_metrics(int, int) owner to tallybook_upkeep;

grant execute on function
  public.tenant_allocation_stats(uuid, uuid),
  public.allocation_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.platform_billing_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.wallet_ledger_page(
    uuid, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.points_ledger_stats(uuid, uuid, timestamptz, timestamptz), public.allocation_metrics(int, int)
to tallybook_functions, service_role;

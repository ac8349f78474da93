-- Operating: the audit of migrations, and what must agree.

revoke all on public.migration_audit, ledger.discrepancies from public, anon, authenticated, service_role;
grant select, insert on public.migration_audit to tallybook_operator;
grant select on ledger.discrepancies to tallybook_operator;

alter table public.migration_audit enable row level security;
alter table public.migration_audit force row level security;

drop policy if exists "an operator keeps the audit of migrations" on public.migration_audit;
create policy "an operator keeps the audit of migrations" on public.migration_audit to tallybook_operator using (true);

revoke all on function public.readiness() from public, anon, authenticated, service_role;
alter function public.readiness() owner to tallybook_upkeep;
grant execute on function public.readiness() to service_role, tallybook_functions, tallybook_worker, tallybook_operator;

revoke all on function
  public.report_events_by_status(interval), public.report_rejections_by_type(interval), public.report_coupons_by_status(interval),
  public.report_templates(interval), public.report_totals(), public.report_balance_audit(), public.report_coupon_codes(),
  public.report_queue(), public.report_stuck_events(interval, int), public.report_balance(uuid),
  public.report_insights_by_type(interval), public.report_damage(timestamptz), public.report_history(uuid, int, timestamptz, uuid),
  public.suspend_points(uuid, text, text, text), public.resume_points(uuid, text, text, text), public.schedule_upkeep(text),
  public.record_migration(text, text, text, boolean, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function
  public.report_events_by_status(interval), public.report_rejections_by_type(interval), public.report_coupons_by_status(interval),
  public.report_templates(interval), public.report_totals(), public.report_balance_audit(), public.report_coupon_codes(),
  public.report_queue(), public.report_stuck_events(interval, int), public.report_balance(uuid),
  public.report_insights_by_type(interval), public.report_damage(timestamptz), public.report_history(uuid, int, timestamptz, uuid)
to tallybook_operator;
grant execute on function public.schedule_upkeep(text), public.record_migration(text, text, text, boolean, text, text, text)
to tallybook_operator;

alter function public.suspend_points(uuid, text, text, text) owner to tallybook_upkeep;
alter function public.resume_points(uuid, text, text, text) owner to tallybook_upkeep;
grant execute on function public.suspend_points(uuid, text, text, text), public.resume_points(uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant select on public.audit_log to tallybook_upkeep;
grant update on public.coupon_templates to tallybook_upkeep;

drop policy if exists "upkeep reads what was suspended" on public.audit_log;
create policy "upkeep reads what was suspended" on public.audit_log for select to tallybook_upkeep
  using (action in ('points.suspend', 'points.resume'));
drop policy if exists "upkeep takes offers away and back" on public.coupon_templates;
create policy "upkeep takes offers away and back" on public.coupon_templates for update to tallybook_upkeep using (true);

revoke all on function
  public.report_credit_balances(), public.report_credit_usage(interval), public.report_credit_low_balances(int),
  public.report_credit_unusual_spending(int), public.report_credit_failure_spikes()
from public, anon, authenticated, service_role;
grant execute on function
  public.report_credit_balances(), public.report_credit_usage(interval), public.report_credit_low_balances(int),
  public.report_credit_unusual_spending(int), public.report_credit_failure_spikes()
to tallybook_operator;

revoke all on function
  public.report_tenant_totals(), public.report_tenant_balances(int), public.report_tenants_below_zero(), public.report_tenant_audit(),
  public.report_allocations(uuid, int), public.report_billing(uuid, int), public.report_allocations_by_day(interval),
  public.report_allocations_by_week(interval), public.report_top_tenants(int, interval), public.report_clawbacks(interval),
  public.report_large_allocations(interval, numeric), public.report_usage_by_tenant(interval)
from public, anon, authenticated, service_role;
grant execute on function
  public.report_tenant_totals(), public.report_tenant_balances(int), public.report_tenants_below_zero(), public.report_tenant_audit(),
  public.report_allocations(uuid, int), public.report_billing(uuid, int), public.report_allocations_by_day(interval),
  public.report_allocations_by_week(interval), public.report_top_tenants(int, interval), public.report_clawbacks(interval),
  public.report_large_allocations(interval, numeric), public.report_usage_by_tenant(interval)
to tallybook_operator;

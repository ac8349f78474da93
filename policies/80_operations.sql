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

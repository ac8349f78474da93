-- Administration: operators appoint administrators, everybody who acts is written down, nobody rewrites it.

revoke all on public.system_admins, public.audit_log from public, anon, authenticated, service_role;
grant select on public.system_admins to tallybook_procedures, tallybook_upkeep, service_role;
grant select, insert, update, delete on public.system_admins to tallybook_operator;
grant insert on public.audit_log to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant select on public.audit_log to service_role, tallybook_operator;

alter table public.system_admins enable row level security;
alter table public.audit_log     enable row level security;
alter table public.system_admins force row level security;
alter table public.audit_log     force row level security;

drop policy if exists "the procedures and the service know the administrators" on public.system_admins;
create policy "the procedures and the service know the administrators" on public.system_admins for select
  to tallybook_procedures, tallybook_upkeep, service_role using (true);
drop policy if exists "an operator appoints the administrators" on public.system_admins;
create policy "an operator appoints the administrators" on public.system_admins to tallybook_operator using (true);
drop policy if exists "whoever acts is written down" on public.audit_log;
create policy "whoever acts is written down" on public.audit_log for insert
  to tallybook_procedures, tallybook_upkeep, tallybook_operator with check (true);
drop policy if exists "the service and operators read the audit log" on public.audit_log;
create policy "the service and operators read the audit log" on public.audit_log for select
  to service_role, tallybook_operator using (true);

revoke all on function
  internal.actor(uuid, text), internal.audit(text, text, text, text, text, jsonb, jsonb, text), internal.audit_change()
from public, anon, authenticated, service_role;

grant execute on function internal.actor(uuid, text), internal.audit(text, text, text, text, text, jsonb, jsonb, text)
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

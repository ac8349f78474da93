-- Trust: clients never learn how they are judged.

revoke all on public.trust_policies, public.trust_rules, public.fraud_insights from public, anon, authenticated, service_role;

grant select on public.trust_policies, public.trust_rules, public.fraud_insights to service_role, tallybook_upkeep;
grant insert on public.fraud_insights to tallybook_upkeep;
grant select, insert, update on public.trust_policies, public.trust_rules, public.fraud_insights to tallybook_operator;

alter table public.trust_policies enable row level security;
alter table public.trust_rules    enable row level security;
alter table public.fraud_insights enable row level security;
alter table public.trust_policies force row level security;
alter table public.trust_rules    force row level security;
alter table public.fraud_insights force row level security;

drop policy if exists "the service and upkeep read the trust policies" on public.trust_policies;
create policy "the service and upkeep read the trust policies" on public.trust_policies for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator sets the trust policies" on public.trust_policies;
create policy "an operator sets the trust policies" on public.trust_policies to tallybook_operator using (true);
drop policy if exists "the service and upkeep read the trust rules" on public.trust_rules;
create policy "the service and upkeep read the trust rules" on public.trust_rules for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator sets the trust rules" on public.trust_rules;
create policy "an operator sets the trust rules" on public.trust_rules to tallybook_operator using (true);
drop policy if exists "the service reads every fraud insight" on public.fraud_insights;
create policy "the service reads every fraud insight" on public.fraud_insights for select to service_role using (true);
drop policy if exists "upkeep and operators see every fraud insight" on public.fraud_insights;
create policy "upkeep and operators see every fraud insight" on public.fraud_insights
  to tallybook_upkeep, tallybook_operator using (true);

revoke all on function
  internal.score_points_events(public.points_events[]), public.validate_points_events(uuid, int)
from public, anon, authenticated, service_role;

grant execute on function internal.score_points_events(public.points_events[]) to tallybook_upkeep;

alter function public.validate_points_events(uuid, int) owner to tallybook_upkeep;
grant execute on function public.validate_points_events(uuid, int) to tallybook_functions, tallybook_worker, service_role, tallybook_operator;

-- Trust: clients never learn how they are judged. Operators set the rules and the lists; what was decided, only the
-- procedures write. The types of insights are the schema's own: foreign keys read them, and people.

revoke all on internal.fraud_insight_types from public, anon, authenticated, service_role;
grant select on internal.fraud_insight_types to service_role, tallybook_operator;

revoke all on public.trust_policies, public.trust_rules, public.trust_lists, public.device_users, public.entity_owners,
  public.trust_assessments, public.fraud_insights, public.points_reviews, public.points_review_notes,
  public.trust_rule_precision
from public, anon, authenticated, service_role;

grant select on public.trust_policies, public.trust_rules, public.trust_lists, public.device_users, public.entity_owners,
  public.trust_assessments, public.fraud_insights, public.points_reviews, public.points_review_notes
to service_role, tallybook_upkeep, tallybook_operator;
grant select on public.trust_rule_precision to service_role, tallybook_operator;
grant insert on public.device_users, public.points_reviews, public.points_review_notes to tallybook_upkeep;
grant insert, update on public.trust_assessments, public.fraud_insights to tallybook_upkeep;
grant insert, update on public.trust_policies, public.trust_rules, public.fraud_insights to tallybook_operator;
grant insert, update, delete on public.trust_lists, public.entity_owners to tallybook_operator;

alter table public.trust_policies      enable row level security;
alter table public.trust_rules         enable row level security;
alter table public.trust_lists         enable row level security;
alter table public.device_users        enable row level security;
alter table public.entity_owners       enable row level security;
alter table public.trust_assessments   enable row level security;
alter table public.fraud_insights      enable row level security;
alter table public.points_reviews      enable row level security;
alter table public.points_review_notes enable row level security;
alter table public.trust_policies      force row level security;
alter table public.trust_rules         force row level security;
alter table public.trust_lists         force row level security;
alter table public.device_users        force row level security;
alter table public.entity_owners       force row level security;
alter table public.trust_assessments   force row level security;
alter table public.fraud_insights      force row level security;
alter table public.points_reviews      force row level security;
alter table public.points_review_notes force row level security;

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

drop policy if exists "the service and upkeep read the trust lists" on public.trust_lists;
create policy "the service and upkeep read the trust lists" on public.trust_lists for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator keeps the trust lists" on public.trust_lists;
create policy "an operator keeps the trust lists" on public.trust_lists to tallybook_operator using (true);

drop policy if exists "the service and operators read whose device it is" on public.device_users;
create policy "the service and operators read whose device it is" on public.device_users for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep notes whose device it is" on public.device_users;
create policy "upkeep notes whose device it is" on public.device_users to tallybook_upkeep using (true);

drop policy if exists "the service and upkeep read whose a thing is" on public.entity_owners;
create policy "the service and upkeep read whose a thing is" on public.entity_owners for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator registers whose a thing is" on public.entity_owners;
create policy "an operator registers whose a thing is" on public.entity_owners to tallybook_operator using (true);

drop policy if exists "the service and operators read every assessment" on public.trust_assessments;
create policy "the service and operators read every assessment" on public.trust_assessments for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep writes down every assessment" on public.trust_assessments;
create policy "upkeep writes down every assessment" on public.trust_assessments to tallybook_upkeep using (true);

drop policy if exists "the service reads every fraud insight" on public.fraud_insights;
create policy "the service reads every fraud insight" on public.fraud_insights for select to service_role using (true);
drop policy if exists "upkeep and operators see every fraud insight" on public.fraud_insights;
create policy "upkeep and operators see every fraud insight" on public.fraud_insights
  to tallybook_upkeep, tallybook_operator using (true);

drop policy if exists "the service and operators read every review" on public.points_reviews;
create policy "the service and operators read every review" on public.points_reviews for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep writes down every review" on public.points_reviews;
create policy "upkeep writes down every review" on public.points_reviews to tallybook_upkeep using (true);

drop policy if exists "the service and operators read every note" on public.points_review_notes;
create policy "the service and operators read every note" on public.points_review_notes for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep writes down every note" on public.points_review_notes;
create policy "upkeep writes down every note" on public.points_review_notes to tallybook_upkeep using (true);

revoke all on function
  internal.account_created_at(uuid[]), internal.points_event_features(public.points_events[]),
  internal.judge_points_events(internal.points_assessed[], public.trust_policies, public.trust_rules[]),
  internal.decide_points_events(public.points_events[]), internal.pending_points_events(uuid, int),
  internal.flag_points_event(public.points_events, text, text), internal.user_of_points_event(uuid),
  internal.points_review_answer(public.points_events, public.points_reviews, boolean),
  internal.changed_trust_rules(jsonb), internal.bump_version(),
  public.validate_points_events(uuid, int, uuid),
  public.review_points_event(uuid, uuid, text, text, text, text, text),
  public.label_points_event(uuid, uuid, text, text, text, text),
  public.resolve_fraud_insight(uuid, uuid, text, text, text),
  public.backtest_trust(int, int, jsonb, timestamptz, timestamptz), internal.suspect_failed_attestation()
from public, anon, authenticated, service_role;

grant execute on function
  internal.account_created_at(uuid[]), internal.points_event_features(public.points_events[]),
  internal.judge_points_events(internal.points_assessed[], public.trust_policies, public.trust_rules[]),
  internal.decide_points_events(public.points_events[]), internal.pending_points_events(uuid, int),
  internal.flag_points_event(public.points_events, text, text), internal.user_of_points_event(uuid),
  internal.points_review_answer(public.points_events, public.points_reviews, boolean),
  internal.changed_trust_rules(jsonb)
to tallybook_upkeep;

alter function public.validate_points_events(uuid, int, uuid) owner to tallybook_upkeep;
grant execute on function public.validate_points_events(uuid, int, uuid)
to tallybook_functions, tallybook_worker, service_role, tallybook_operator;

alter function public.review_points_event(uuid, uuid, text, text, text, text, text) owner to tallybook_upkeep;
alter function public.label_points_event(uuid, uuid, text, text, text, text) owner to tallybook_upkeep;
alter function public.resolve_fraud_insight(uuid, uuid, text, text, text) owner to tallybook_upkeep;
grant execute on function
  public.review_points_event(uuid, uuid, text, text, text, text, text),
  public.label_points_event(uuid, uuid, text, text, text, text),
  public.resolve_fraud_insight(uuid, uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;

alter function public.backtest_trust(int, int, jsonb, timestamptz, timestamptz) owner to tallybook_upkeep;
grant execute on function public.backtest_trust(int, int, jsonb, timestamptz, timestamptz) to service_role, tallybook_operator;

alter function internal.suspect_failed_attestation() owner to tallybook_upkeep;

-- Points: a user reads what is theirs, the procedures write, an operator mends by hand under the triggers' eyes.

revoke all on public.points_programs, public.streak_multipliers, public.points_rules, public.points_events, public.user_points_cache, public.used_nonces, internal.workers,
  internal.points_discrepancies from public, anon, authenticated, service_role;

grant select on public.points_rules, public.points_events, public.user_points_cache to authenticated, service_role;
grant select on public.points_programs, public.points_rules, public.streak_multipliers to service_role, tallybook_procedures, tallybook_upkeep;
grant select on public.points_rules, public.streak_multipliers to authenticated;
grant select, insert, update on public.points_programs to tallybook_operator;
grant select, insert, update, delete on public.streak_multipliers to tallybook_operator;
grant select, insert, update on public.points_events, public.user_points_cache to tallybook_procedures, tallybook_upkeep;
grant select, insert on public.used_nonces to tallybook_procedures;
grant select, update, delete on public.used_nonces to tallybook_upkeep;
grant select on internal.workers to tallybook_procedures;
grant select, insert, update, delete on internal.workers to tallybook_worker;
grant select, insert, update on public.points_rules, public.points_events to tallybook_operator;
grant select on public.user_points_cache, public.used_nonces, internal.points_discrepancies to tallybook_operator;

alter table public.points_programs    enable row level security;
alter table public.streak_multipliers enable row level security;
alter table public.points_programs    force row level security;
alter table public.streak_multipliers force row level security;
alter table public.points_rules      enable row level security;
alter table public.points_events     enable row level security;
alter table public.user_points_cache enable row level security;
alter table public.used_nonces       enable row level security;
alter table public.points_rules      force row level security;
alter table public.points_events     force row level security;
alter table public.user_points_cache force row level security;
alter table public.used_nonces       force row level security;

drop policy if exists "everybody signed in reads what earns points" on public.points_rules;
create policy "everybody signed in reads what earns points" on public.points_rules for select to authenticated
  using (not is_honeypot);
drop policy if exists "the service and the procedures read every rule" on public.points_rules;
create policy "the service and the procedures read every rule" on public.points_rules for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets what earns points" on public.points_rules;
create policy "an operator sets what earns points" on public.points_rules to tallybook_operator using (true);

drop policy if exists "everybody signed in reads what a streak is worth" on public.streak_multipliers;
create policy "everybody signed in reads what a streak is worth" on public.streak_multipliers for select
  to authenticated, service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets what a streak is worth" on public.streak_multipliers;
create policy "an operator sets what a streak is worth" on public.streak_multipliers to tallybook_operator using (true);
drop policy if exists "the procedures and the service read the programs" on public.points_programs;
create policy "the procedures and the service read the programs" on public.points_programs for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets the programs" on public.points_programs;
create policy "an operator sets the programs" on public.points_programs to tallybook_operator using (true);

drop policy if exists "a user reads their own points events" on public.points_events;
create policy "a user reads their own points events" on public.points_events for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a user reads their own balance" on public.user_points_cache;
create policy "a user reads their own balance" on public.user_points_cache for select to authenticated
  using (user_id = (select internal.caller_id()));

drop policy if exists "the service reads every points event" on public.points_events;
create policy "the service reads every points event" on public.points_events for select to service_role using (true);
drop policy if exists "the service reads every balance" on public.user_points_cache;
create policy "the service reads every balance" on public.user_points_cache for select to service_role using (true);

drop policy if exists "a procedure touches the points events of its subjects" on public.points_events;
create policy "a procedure touches the points events of its subjects" on public.points_events to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "a procedure touches the balances of its subjects" on public.user_points_cache;
create policy "a procedure touches the balances of its subjects" on public.user_points_cache to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "a procedure touches the nonces of its subjects" on public.used_nonces;
create policy "a procedure touches the nonces of its subjects" on public.used_nonces to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));

drop policy if exists "upkeep and operators see every points event" on public.points_events;
create policy "upkeep and operators see every points event" on public.points_events
  to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every balance" on public.user_points_cache;
create policy "upkeep and operators see every balance" on public.user_points_cache
  to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every nonce" on public.used_nonces;
create policy "upkeep and operators see every nonce" on public.used_nonces
  to tallybook_upkeep, tallybook_operator using (true);

revoke all on function
  internal.points_event_hash(uuid, text, timestamptz, text, text, uuid, jsonb, text, jsonb, text), internal.move_points(internal.points_move[]),
  internal.submit_points_event_batch(jsonb), internal.guard_points_event(), internal.complete_points_event(), internal.audit_points_award(), public.recheck_points_event(uuid, uuid, text, text),
  public.submit_points_event(uuid, text, timestamptz, text, text, uuid, jsonb, jsonb, text, jsonb, text, inet, text),
  public.refresh_user_points_cache(uuid), public.points_balance(uuid)
from public, anon, authenticated, service_role;

revoke all on function internal.points_awarded(public.points_events[]), internal.points_limit_detail(uuid, text) from public, anon, authenticated, service_role;
grant execute on function internal.points_awarded(public.points_events[]) to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant execute on function internal.points_limit_detail(uuid, text) to tallybook_procedures;

grant execute on function
  internal.points_event_hash(uuid, text, timestamptz, text, text, uuid, jsonb, text, jsonb, text), internal.move_points(internal.points_move[])
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

alter function internal.submit_points_event_batch(jsonb) owner to tallybook_procedures;
alter function public.submit_points_event(uuid, text, timestamptz, text, text, uuid, jsonb, jsonb, text, jsonb, text, inet, text)
  owner to tallybook_procedures;
alter function public.refresh_user_points_cache(uuid) owner to tallybook_procedures;
alter function public.points_balance(uuid) owner to tallybook_procedures;

grant execute on function internal.submit_points_event_batch(jsonb) to tallybook_functions;
grant execute on function public.submit_points_event(uuid, text, timestamptz, text, text, uuid, jsonb, jsonb, text, jsonb, text, inet, text)
to tallybook_functions, service_role;
grant execute on function public.points_balance(uuid) to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.refresh_user_points_cache(uuid) to service_role, tallybook_worker, tallybook_operator;

revoke all on function public.cleanup_expired_nonces(int) from public, anon, authenticated, service_role;
alter function public.cleanup_expired_nonces(int) owner to tallybook_upkeep;
grant execute on function public.cleanup_expired_nonces(int) to service_role, tallybook_worker, tallybook_operator;

revoke all on function internal.overdrawn_points(internal.points_move[]), public.import_points_events(text, jsonb)
from public, anon, authenticated, service_role;
grant execute on function internal.overdrawn_points(internal.points_move[]) to tallybook_upkeep;
alter function public.import_points_events(text, jsonb) owner to tallybook_upkeep;
grant execute on function public.import_points_events(text, jsonb) to tallybook_operator;

revoke all on internal.points_expiry_walks, public.points_expiry_schedule from public, anon, authenticated, service_role;
grant select, insert, update, delete on internal.points_expiry_walks to tallybook_upkeep;
grant select on public.points_expiry_schedule to tallybook_operator;

revoke all on function
  internal.earned_lots(uuid[]), internal.walk_points_expiry(), public.points_schedule(uuid), public.expire_points(int),
  public.award_points(uuid, uuid, int, text, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function internal.earned_lots(uuid[]) to tallybook_procedures, tallybook_upkeep, tallybook_operator;
alter function internal.walk_points_expiry() owner to tallybook_upkeep;
alter function public.points_schedule(uuid) owner to tallybook_procedures;
grant execute on function public.points_schedule(uuid) to tallybook_functions, service_role, tallybook_operator;
alter function public.expire_points(int) owner to tallybook_upkeep;
grant execute on function public.expire_points(int) to service_role, tallybook_worker, tallybook_operator;
alter function public.award_points(uuid, uuid, int, text, text, text, text) owner to tallybook_upkeep;
grant execute on function public.award_points(uuid, uuid, int, text, text, text, text)
to tallybook_functions, service_role, tallybook_operator;

alter function public.recheck_points_event(uuid, uuid, text, text) owner to tallybook_upkeep;
grant execute on function public.recheck_points_event(uuid, uuid, text, text) to tallybook_worker, service_role;

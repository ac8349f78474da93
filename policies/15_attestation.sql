-- Device attestation: the procedures keep what devices prove, operators read it and revoke keys.

revoke all on public.attestation_challenges, public.device_keys, public.device_key_users, public.attestation_cache,
  public.attestation_decodes, public.attestation_rechecks, public.attestation_failures
from public, anon, authenticated, service_role;

grant select, insert, update on public.attestation_challenges, public.device_keys to tallybook_procedures;
grant select, insert on public.device_key_users to tallybook_procedures;
grant insert on public.attestation_rechecks to tallybook_procedures;
grant select, insert, update on public.attestation_failures to tallybook_procedures, tallybook_upkeep;
grant delete on public.attestation_failures to tallybook_upkeep;
grant select, insert, update, delete on public.attestation_cache, public.attestation_decodes to tallybook_upkeep;
grant select, update, delete on public.attestation_challenges, public.attestation_rechecks to tallybook_upkeep;
grant select on public.device_key_users to tallybook_upkeep;
grant select on public.device_keys, public.device_key_users, public.attestation_cache, public.attestation_decodes,
  public.attestation_failures
to service_role, tallybook_operator;
grant update (revoked_at) on public.device_keys to tallybook_operator;

alter table public.attestation_challenges enable row level security;
alter table public.device_keys            enable row level security;
alter table public.device_key_users       enable row level security;
alter table public.attestation_cache      enable row level security;
alter table public.attestation_decodes    enable row level security;
alter table public.attestation_rechecks   enable row level security;
alter table public.attestation_failures   enable row level security;
alter table public.attestation_challenges force row level security;
alter table public.device_keys            force row level security;
alter table public.device_key_users       force row level security;
alter table public.attestation_cache      force row level security;
alter table public.attestation_decodes    force row level security;
alter table public.attestation_rechecks   force row level security;
alter table public.attestation_failures   force row level security;

drop policy if exists "a procedure asks the devices of its subjects" on public.attestation_challenges;
create policy "a procedure asks the devices of its subjects" on public.attestation_challenges to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep forgets what nobody can answer" on public.attestation_challenges;
create policy "upkeep forgets what nobody can answer" on public.attestation_challenges to tallybook_upkeep using (true);

-- A key is its device's: whoever signs in there signs with it, so no subject owns it.
drop policy if exists "the procedures keep the keys of devices" on public.device_keys;
create policy "the procedures keep the keys of devices" on public.device_keys to tallybook_procedures using (true);
drop policy if exists "operators revoke the keys of devices" on public.device_keys;
create policy "operators revoke the keys of devices" on public.device_keys to tallybook_operator using (true);
drop policy if exists "the service reads the keys of devices" on public.device_keys;
create policy "the service reads the keys of devices" on public.device_keys for select to service_role using (true);

drop policy if exists "a procedure notes which device its subjects use" on public.device_key_users;
create policy "a procedure notes which device its subjects use" on public.device_key_users to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "trust and operators see who uses a device" on public.device_key_users;
create policy "trust and operators see who uses a device" on public.device_key_users for select
  to tallybook_upkeep, tallybook_operator, service_role using (true);

drop policy if exists "upkeep keeps what is known of tokens" on public.attestation_cache;
create policy "upkeep keeps what is known of tokens" on public.attestation_cache to tallybook_upkeep using (true);
drop policy if exists "operators read what is known of tokens" on public.attestation_cache;
create policy "operators read what is known of tokens" on public.attestation_cache for select
  to tallybook_operator, service_role using (true);
drop policy if exists "upkeep counts the tokens that were decoded" on public.attestation_decodes;
create policy "upkeep counts the tokens that were decoded" on public.attestation_decodes to tallybook_upkeep using (true);
drop policy if exists "operators see how many tokens were decoded" on public.attestation_decodes;
create policy "operators see how many tokens were decoded" on public.attestation_decodes for select
  to tallybook_operator, service_role using (true);

drop policy if exists "a procedure leaves what is checked later" on public.attestation_rechecks;
create policy "a procedure leaves what is checked later" on public.attestation_rechecks for insert to tallybook_procedures
  with check (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep hands out what is checked later" on public.attestation_rechecks;
create policy "upkeep hands out what is checked later" on public.attestation_rechecks to tallybook_upkeep using (true);

drop policy if exists "a procedure writes down what its subjects failed" on public.attestation_failures;
create policy "a procedure writes down what its subjects failed" on public.attestation_failures to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep writes down what failed later" on public.attestation_failures;
create policy "upkeep writes down what failed later" on public.attestation_failures to tallybook_upkeep using (true);
drop policy if exists "operators read what attestations failed" on public.attestation_failures;
create policy "operators read what attestations failed" on public.attestation_failures for select
  to tallybook_operator, service_role using (true);

revoke all on function
  internal.settle_attestations(internal.attestation_claim[]),
  internal.fail_attestation(internal.attestation_claim, text, uuid),
  public.create_attestation_challenge(uuid, text, text), public.register_device_key(uuid, text, jsonb, text),
  public.device_public_key(uuid, text), public.claim_attestation(uuid, text, int, text, text), public.record_attestation(text, timestamptz, boolean, jsonb),
  public.due_attestations(int), public.cleanup_expired_attestations(int)
from public, anon, authenticated, service_role;

grant execute on function internal.settle_attestations(internal.attestation_claim[]) to tallybook_procedures;
grant execute on function internal.fail_attestation(internal.attestation_claim, text, uuid) to tallybook_procedures, tallybook_upkeep;

alter function public.create_attestation_challenge(uuid, text, text) owner to tallybook_procedures;
alter function public.register_device_key(uuid, text, jsonb, text) owner to tallybook_procedures;
alter function public.device_public_key(uuid, text) owner to tallybook_procedures;
grant execute on function
  public.create_attestation_challenge(uuid, text, text), public.register_device_key(uuid, text, jsonb, text),
  public.device_public_key(uuid, text)
to tallybook_functions, service_role;

alter function public.claim_attestation(uuid, text, int, text, text) owner to tallybook_upkeep;
alter function public.record_attestation(text, timestamptz, boolean, jsonb) owner to tallybook_upkeep;
grant execute on function public.claim_attestation(uuid, text, int, text, text), public.record_attestation(text, timestamptz, boolean, jsonb)
to tallybook_functions, tallybook_worker, service_role;

alter function public.due_attestations(int) owner to tallybook_upkeep;
grant execute on function public.due_attestations(int) to tallybook_worker, service_role;
alter function public.cleanup_expired_attestations(int) owner to tallybook_upkeep;
grant execute on function public.cleanup_expired_attestations(int) to service_role, tallybook_worker, tallybook_operator;

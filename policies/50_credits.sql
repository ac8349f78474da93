-- Credits: a user reads what is theirs, the procedures write, an operator sets prices and codes. Nobody else writes.

revoke all on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers,
  public.credit_packages, public.user_credits, public.credit_transactions, public.credit_grants, public.credit_lot_entries,
  public.credit_reservations, public.usage_events, public.usage_rollups, internal.usage_totals, internal.usage_deltas,
  public.coupon_codes, public.coupon_redemptions, public.openrouter_accounts, internal.credit_discrepancies,
  internal.credit_reservation_discrepancies
from public, anon, authenticated, service_role;
grant select on internal.credit_discrepancies, internal.credit_reservation_discrepancies to tallybook_operator;

grant select on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers, public.credit_packages
to authenticated, service_role, tallybook_procedures, tallybook_upkeep;
grant insert, delete on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers
to tallybook_upkeep;
grant select, insert, update, delete on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers, public.credit_packages
to tallybook_operator;

grant select on
  public.user_credits, public.credit_transactions, public.credit_grants, public.credit_lot_entries, public.credit_reservations,
  public.usage_events, public.usage_rollups, public.coupon_redemptions
to authenticated, service_role, tallybook_operator;
grant select, insert, update on public.user_credits, public.credit_grants, public.usage_rollups, public.coupon_redemptions
to tallybook_procedures, tallybook_upkeep;
grant select, insert on public.credit_transactions, public.credit_lot_entries, public.credit_reservations, public.usage_events
to tallybook_procedures, tallybook_upkeep;
grant update (released_at, available_again) on public.credit_reservations to tallybook_procedures;
grant insert on internal.usage_deltas to tallybook_procedures;
grant select, insert, delete on internal.usage_deltas to tallybook_upkeep;
grant select, insert, update on internal.usage_totals to tallybook_upkeep;
grant select on internal.usage_totals, internal.usage_deltas to tallybook_operator;

grant select on public.coupon_codes to service_role;
grant select, update on public.coupon_codes to tallybook_procedures;
grant select, insert, update, delete on public.coupon_codes to tallybook_upkeep, tallybook_operator;

-- Nobody reads a key through an API, encrypted or not.
grant select, insert, update, delete on public.openrouter_accounts to tallybook_procedures;
grant select on public.openrouter_accounts to tallybook_operator;

alter table public.pricing_versions     enable row level security;
alter table public.pricing_models       enable row level security;
alter table public.pricing_providers    enable row level security;
alter table public.pricing_power_levels enable row level security;
alter table public.pricing_tiers        enable row level security;
alter table public.credit_packages      enable row level security;
alter table public.user_credits         enable row level security;
alter table public.credit_transactions  enable row level security;
alter table public.credit_grants        enable row level security;
alter table public.credit_lot_entries   enable row level security;
alter table public.credit_reservations  enable row level security;
alter table public.usage_events         enable row level security;
alter table public.usage_rollups        enable row level security;
alter table public.coupon_codes         enable row level security;
alter table public.coupon_redemptions   enable row level security;
alter table public.openrouter_accounts  enable row level security;
alter table public.pricing_versions     force row level security;
alter table public.pricing_models       force row level security;
alter table public.pricing_providers    force row level security;
alter table public.pricing_power_levels force row level security;
alter table public.pricing_tiers        force row level security;
alter table public.credit_packages      force row level security;
alter table public.user_credits         force row level security;
alter table public.credit_transactions  force row level security;
alter table public.credit_grants        force row level security;
alter table public.credit_lot_entries   force row level security;
alter table public.credit_reservations  force row level security;
alter table public.usage_events         force row level security;
alter table public.usage_rollups        force row level security;
alter table public.coupon_codes         force row level security;
alter table public.coupon_redemptions   force row level security;
alter table public.openrouter_accounts  force row level security;

drop policy if exists "everybody signed in reads the packages of credits" on public.credit_packages;
create policy "everybody signed in reads the packages of credits" on public.credit_packages for select
  to authenticated, service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets the packages of credits" on public.credit_packages;
create policy "an operator sets the packages of credits" on public.credit_packages to tallybook_operator using (true);
drop policy if exists "everybody signed in reads the price lists" on public.pricing_versions;
create policy "everybody signed in reads the price lists" on public.pricing_versions for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the price lists" on public.pricing_versions;
create policy "operators and upkeep set the price lists" on public.pricing_versions to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the prices of models" on public.pricing_models;
create policy "everybody signed in reads the prices of models" on public.pricing_models for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the prices of models" on public.pricing_models;
create policy "operators and upkeep set the prices of models" on public.pricing_models to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the prices of providers" on public.pricing_providers;
create policy "everybody signed in reads the prices of providers" on public.pricing_providers for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the prices of providers" on public.pricing_providers;
create policy "operators and upkeep set the prices of providers" on public.pricing_providers to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the power levels" on public.pricing_power_levels;
create policy "everybody signed in reads the power levels" on public.pricing_power_levels for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the power levels" on public.pricing_power_levels;
create policy "operators and upkeep set the power levels" on public.pricing_power_levels to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the tiers" on public.pricing_tiers;
create policy "everybody signed in reads the tiers" on public.pricing_tiers for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the tiers" on public.pricing_tiers;
create policy "operators and upkeep set the tiers" on public.pricing_tiers to tallybook_operator, tallybook_upkeep using (true);

drop policy if exists "a user reads their own credits" on public.user_credits;
create policy "a user reads their own credits" on public.user_credits for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the credits of its subjects" on public.user_credits;
create policy "a procedure touches the credits of its subjects" on public.user_credits to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all credits" on public.user_credits;
create policy "the service and operators read all credits" on public.user_credits for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all credits" on public.user_credits;
create policy "upkeep sees all credits" on public.user_credits to tallybook_upkeep using (true);
drop policy if exists "a user reads their own credit transactions" on public.credit_transactions;
create policy "a user reads their own credit transactions" on public.credit_transactions for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the credit transactions of its subjects" on public.credit_transactions;
create policy "a procedure touches the credit transactions of its subjects" on public.credit_transactions to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all credit transactions" on public.credit_transactions;
create policy "the service and operators read all credit transactions" on public.credit_transactions for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all credit transactions" on public.credit_transactions;
create policy "upkeep sees all credit transactions" on public.credit_transactions to tallybook_upkeep using (true);
drop policy if exists "a user reads their own lots" on public.credit_grants;
create policy "a user reads their own lots" on public.credit_grants for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the lots of its subjects" on public.credit_grants;
create policy "a procedure touches the lots of its subjects" on public.credit_grants to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all lots" on public.credit_grants;
create policy "the service and operators read all lots" on public.credit_grants for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all lots" on public.credit_grants;
create policy "upkeep sees all lots" on public.credit_grants to tallybook_upkeep using (true);
drop policy if exists "a user reads their own lot entries" on public.credit_lot_entries;
create policy "a user reads their own lot entries" on public.credit_lot_entries for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the lot entries of its subjects" on public.credit_lot_entries;
create policy "a procedure touches the lot entries of its subjects" on public.credit_lot_entries to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all lot entries" on public.credit_lot_entries;
create policy "the service and operators read all lot entries" on public.credit_lot_entries for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all lot entries" on public.credit_lot_entries;
create policy "upkeep sees all lot entries" on public.credit_lot_entries to tallybook_upkeep using (true);
drop policy if exists "a user reads their own reservations" on public.credit_reservations;
create policy "a user reads their own reservations" on public.credit_reservations for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the reservations of its subjects" on public.credit_reservations;
create policy "a procedure touches the reservations of its subjects" on public.credit_reservations to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all reservations" on public.credit_reservations;
create policy "the service and operators read all reservations" on public.credit_reservations for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all reservations" on public.credit_reservations;
create policy "upkeep sees all reservations" on public.credit_reservations to tallybook_upkeep using (true);
drop policy if exists "a user reads their own usage" on public.usage_events;
create policy "a user reads their own usage" on public.usage_events for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the usage of its subjects" on public.usage_events;
create policy "a procedure touches the usage of its subjects" on public.usage_events to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all usage" on public.usage_events;
create policy "the service and operators read all usage" on public.usage_events for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all usage" on public.usage_events;
create policy "upkeep sees all usage" on public.usage_events to tallybook_upkeep using (true);
drop policy if exists "a user reads their own usage rollups" on public.usage_rollups;
create policy "a user reads their own usage rollups" on public.usage_rollups for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the usage rollups of its subjects" on public.usage_rollups;
create policy "a procedure touches the usage rollups of its subjects" on public.usage_rollups to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all usage rollups" on public.usage_rollups;
create policy "the service and operators read all usage rollups" on public.usage_rollups for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all usage rollups" on public.usage_rollups;
create policy "upkeep sees all usage rollups" on public.usage_rollups to tallybook_upkeep using (true);
drop policy if exists "a user reads their own redeemed promotions" on public.coupon_redemptions;
create policy "a user reads their own redeemed promotions" on public.coupon_redemptions for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the redeemed promotions of its subjects" on public.coupon_redemptions;
create policy "a procedure touches the redeemed promotions of its subjects" on public.coupon_redemptions to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all redeemed promotions" on public.coupon_redemptions;
create policy "the service and operators read all redeemed promotions" on public.coupon_redemptions for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all redeemed promotions" on public.coupon_redemptions;
create policy "upkeep sees all redeemed promotions" on public.coupon_redemptions to tallybook_upkeep using (true);

drop policy if exists "the service and the procedures read the promotions" on public.coupon_codes;
create policy "the service and the procedures read the promotions" on public.coupon_codes for select
  to service_role, tallybook_procedures using (true);
drop policy if exists "a procedure counts the uses of a promotion" on public.coupon_codes;
create policy "a procedure counts the uses of a promotion" on public.coupon_codes for update to tallybook_procedures using (true);
drop policy if exists "upkeep and operators set the promotions" on public.coupon_codes;
create policy "upkeep and operators set the promotions" on public.coupon_codes to tallybook_upkeep, tallybook_operator using (true);

drop policy if exists "a procedure touches the provider accounts of its subjects" on public.openrouter_accounts;
create policy "a procedure touches the provider accounts of its subjects" on public.openrouter_accounts to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "an operator sees the provider accounts" on public.openrouter_accounts;
create policy "an operator sees the provider accounts" on public.openrouter_accounts for select to tallybook_operator using (true);

-- The cores.
revoke all on function
  internal.credits_json(numeric), internal.request_hash(jsonb), internal.is_system_key(text), internal.lock_credits(uuid[]),
  internal.credit_move(uuid, numeric, text, uuid, text, text, text, text, bigint, numeric, jsonb, uuid, text, text, text, text, timestamptz, uuid, text, int, timestamptz),
  internal.move_credits(internal.credit_movement[]), internal.charge_use(internal.credit_movement),
  internal.credit_cost(bigint, text, text, text, text, int), internal.pricing_version(),
  internal.expire_credit_lots(uuid[]), internal.credit_account(uuid), internal.month_spent(uuid),
  internal.record_usage(public.usage_events[]), internal.record_one_use(public.usage_events), internal.user_of_account(text), internal.users_of_accounts(text[])
from public, anon, authenticated, service_role;

grant execute on function
  internal.credits_json(numeric), internal.request_hash(jsonb), internal.is_system_key(text), internal.lock_credits(uuid[]),
  internal.credit_move(uuid, numeric, text, uuid, text, text, text, text, bigint, numeric, jsonb, uuid, text, text, text, text, timestamptz, uuid, text, int, timestamptz),
  internal.move_credits(internal.credit_movement[]), internal.charge_use(internal.credit_movement),
  internal.credit_cost(bigint, text, text, text, text, int), internal.pricing_version(),
  internal.expire_credit_lots(uuid[]), internal.credit_account(uuid), internal.month_spent(uuid),
  internal.record_usage(public.usage_events[]), internal.record_one_use(public.usage_events)
to tallybook_procedures, tallybook_upkeep;
grant execute on function internal.user_of_account(text), internal.users_of_accounts(text[]) to tallybook_upkeep, tallybook_operator;
grant execute on function internal.credits_json(numeric), internal.pricing_version(), internal.month_spent(uuid) to tallybook_operator;

revoke all on function
  internal.usage_event(uuid, numeric, bigint, text, text, text, text, boolean, jsonb, text, int, uuid, text, text, text, timestamptz),
  internal.credits_text(numeric), internal.ended_credits(uuid), internal.credit_transaction_json(public.credit_transactions),
  internal.monthly_cap_room(uuid), internal.monthly_cap_detail(numeric), internal.deduct_credits_batch(jsonb),
  public.deduct_credits(uuid, numeric, bigint, text, text, text, text, text, jsonb, text, text), public.credit_balance(uuid, boolean)
from public, anon, authenticated, service_role;

grant execute on function
  internal.usage_event(uuid, numeric, bigint, text, text, text, text, boolean, jsonb, text, int, uuid, text, text, text, timestamptz),
  internal.credits_text(numeric), internal.ended_credits(uuid), internal.credit_transaction_json(public.credit_transactions),
  internal.monthly_cap_room(uuid), internal.monthly_cap_detail(numeric)
to tallybook_procedures, tallybook_upkeep;

alter function internal.deduct_credits_batch(jsonb) owner to tallybook_procedures;
alter function public.deduct_credits(uuid, numeric, bigint, text, text, text, text, text, jsonb, text, text) owner to tallybook_procedures;
alter function public.credit_balance(uuid, boolean) owner to tallybook_procedures;
grant execute on function internal.deduct_credits_batch(jsonb) to tallybook_functions;
grant execute on function
  public.deduct_credits(uuid, numeric, bigint, text, text, text, text, text, jsonb, text, text), public.credit_balance(uuid, boolean)
to tallybook_functions, service_role, tallybook_operator;

-- Reserving, settling and releasing, for the user; and the month's cap.
revoke all on function
  internal.credit_reservation_status(public.credit_reservations, text, boolean), internal.monthly_cap(uuid),
  public.reserve_credits(uuid, text, text, text, bigint, numeric, int, jsonb, boolean, text, text),
  internal.reserve_credits_batch(jsonb), internal.settle_credits_batch(jsonb), internal.release_credits_batch(jsonb),
  public.settle_credits(uuid, uuid, bigint, numeric, boolean, jsonb, boolean, text), public.release_credits(uuid, uuid, boolean),
  public.monthly_cap(uuid), public.set_monthly_cap(uuid, numeric, text)
from public, anon, authenticated, service_role;

alter function internal.reserve_credits_batch(jsonb) owner to tallybook_procedures;
alter function internal.settle_credits_batch(jsonb) owner to tallybook_procedures;
alter function internal.release_credits_batch(jsonb) owner to tallybook_procedures;
alter function public.reserve_credits(uuid, text, text, text, bigint, numeric, int, jsonb, boolean, text, text) owner to tallybook_procedures;
alter function public.settle_credits(uuid, uuid, bigint, numeric, boolean, jsonb, boolean, text) owner to tallybook_procedures;
alter function public.release_credits(uuid, uuid, boolean) owner to tallybook_procedures;
alter function public.monthly_cap(uuid) owner to tallybook_procedures;
alter function public.set_monthly_cap(uuid, numeric, text) owner to tallybook_procedures;

grant execute on function internal.credit_reservation_status(public.credit_reservations, text, boolean), internal.monthly_cap(uuid)
to tallybook_procedures;
grant execute on function
  internal.reserve_credits_batch(jsonb), internal.settle_credits_batch(jsonb), internal.release_credits_batch(jsonb)
to tallybook_functions;
grant execute on function
  public.reserve_credits(uuid, text, text, text, bigint, numeric, int, jsonb, boolean, text, text),
  public.settle_credits(uuid, uuid, bigint, numeric, boolean, jsonb, boolean, text), public.release_credits(uuid, uuid, boolean),
  public.monthly_cap(uuid), public.set_monthly_cap(uuid, numeric, text)
to tallybook_functions, service_role;

-- Promotional codes and purchases: users redeem and buy, administrators and payment providers set and record.
revoke all on function
  internal.promotion_code(text), internal.promotion_terms(uuid, text), internal.promotion_answer(public.coupon_codes), internal.waiting_discount(uuid),
  public.redeem_promotion(uuid, text, inet, text, text, text), public.validate_promotion(uuid, text, inet, text),
  public.credit_packages_on_offer(uuid),
  public.create_promotion(uuid, text, text, numeric, text, int, int, text, int, timestamptz, timestamptz, text, text),
  public.list_promotions(uuid, boolean, int, int), public.delete_promotion(uuid, text, text, text, text),
  public.record_credit_purchase(uuid, text, text, text, numeric, text, text)
from public, anon, authenticated, service_role;

grant execute on function internal.promotion_code(text), internal.waiting_discount(uuid) to tallybook_procedures, tallybook_upkeep;
grant execute on function internal.promotion_terms(uuid, text) to tallybook_procedures;
grant execute on function internal.promotion_answer(public.coupon_codes) to tallybook_upkeep;

alter function public.redeem_promotion(uuid, text, inet, text, text, text) owner to tallybook_procedures;
alter function public.validate_promotion(uuid, text, inet, text) owner to tallybook_procedures;
alter function public.credit_packages_on_offer(uuid) owner to tallybook_procedures;
alter function public.create_promotion(uuid, text, text, numeric, text, int, int, text, int, timestamptz, timestamptz, text, text)
owner to tallybook_upkeep;
alter function public.list_promotions(uuid, boolean, int, int) owner to tallybook_upkeep;
alter function public.delete_promotion(uuid, text, text, text, text) owner to tallybook_upkeep;
alter function public.record_credit_purchase(uuid, text, text, text, numeric, text, text) owner to tallybook_upkeep;

grant execute on function
  public.redeem_promotion(uuid, text, inet, text, text, text), public.validate_promotion(uuid, text, inet, text),
  public.credit_packages_on_offer(uuid)
to tallybook_functions, service_role;
grant execute on function
  public.create_promotion(uuid, text, text, numeric, text, int, int, text, int, timestamptz, timestamptz, text, text),
  public.list_promotions(uuid, boolean, int, int), public.delete_promotion(uuid, text, text, text, text),
  public.record_credit_purchase(uuid, text, text, text, numeric, text, text)
to tallybook_functions, service_role, tallybook_operator;

-- Accounts at OpenRouter. Who may call the function that reads the key gets it encrypted.
revoke all on function
  internal.openrouter_answer(public.openrouter_accounts), internal.check_encrypted(text, text),
  public.store_openrouter_account(uuid, text, text, text, numeric), public.openrouter_account(uuid, boolean),
  public.delete_openrouter_account(uuid), public.note_openrouter_sync(uuid, text, text, numeric, text, text),
  public.reencrypt_openrouter_account(uuid, text, text, text)
from public, anon, authenticated, service_role;

alter function public.store_openrouter_account(uuid, text, text, text, numeric) owner to tallybook_procedures;
alter function public.openrouter_account(uuid, boolean) owner to tallybook_procedures;
alter function public.delete_openrouter_account(uuid) owner to tallybook_procedures;
alter function public.note_openrouter_sync(uuid, text, text, numeric, text, text) owner to tallybook_procedures;
alter function public.reencrypt_openrouter_account(uuid, text, text, text) owner to tallybook_procedures;

grant execute on function internal.openrouter_answer(public.openrouter_accounts), internal.check_encrypted(text, text) to tallybook_procedures;
grant execute on function
  public.store_openrouter_account(uuid, text, text, text, numeric), public.openrouter_account(uuid, boolean),
  public.delete_openrouter_account(uuid), public.note_openrouter_sync(uuid, text, text, numeric, text, text)
to tallybook_functions, service_role;
grant execute on function public.reencrypt_openrouter_account(uuid, text, text, text) to tallybook_operator;

-- Prices and tiers.
revoke all on function
  internal.changed_price_list(jsonb, jsonb), internal.guard_price_list(), public.price_list(int),
  public.calculate_credit_cost(uuid, bigint, text, text, text, text), public.compare_tiers(uuid, bigint, text, text),
  public.publish_prices(uuid, jsonb, text, timestamptz, text, text), public.withdraw_prices(uuid, int, text, text, text),
  public.switch_tier(uuid, text, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function internal.changed_price_list(jsonb, jsonb) to tallybook_upkeep;

alter function public.price_list(int) owner to tallybook_procedures;
alter function public.calculate_credit_cost(uuid, bigint, text, text, text, text) owner to tallybook_procedures;
alter function public.compare_tiers(uuid, bigint, text, text) owner to tallybook_procedures;
grant execute on function public.price_list(int) to tallybook_upkeep;
grant execute on function
  public.price_list(int), public.calculate_credit_cost(uuid, bigint, text, text, text, text),
  public.compare_tiers(uuid, bigint, text, text)
to tallybook_functions, service_role, tallybook_operator;

alter function public.publish_prices(uuid, jsonb, text, timestamptz, text, text) owner to tallybook_upkeep;
alter function public.withdraw_prices(uuid, int, text, text, text) owner to tallybook_upkeep;
grant execute on function
  public.publish_prices(uuid, jsonb, text, timestamptz, text, text), public.withdraw_prices(uuid, int, text, text, text)
to service_role, tallybook_operator;

alter function public.switch_tier(uuid, text, text, text, text) owner to tallybook_upkeep;
grant execute on function public.switch_tier(uuid, text, text, text, text) to tallybook_functions, service_role, tallybook_operator;

-- Credits that are given, refunded, come with the month and end.
revoke all on function
  internal.parsed_time(text), internal.ended_credit_lots(uuid[]), internal.record_usage_refund(uuid, uuid, numeric),
  internal.allocate_credits_batch(uuid, jsonb, text, text, text, text),
  public.allocate_credits(uuid, text, numeric, text, text, text, int, timestamptz, text, text, text),
  public.bulk_allocate_credits(uuid, jsonb, text, text, text, text), public.refund_credits(uuid, text, uuid, numeric, text, text, text, text),
  public.allocate_monthly_credits(int), public.expire_credits(int), public.credit_lots(uuid),
  public.credit_transactions_page(uuid, text, timestamptz, timestamptz, int, int, text), public.credit_transaction(uuid, uuid)
from public, anon, authenticated, service_role;

grant execute on function internal.ended_credit_lots(uuid[])
to tallybook_procedures, tallybook_upkeep;
grant execute on function
  internal.parsed_time(text), internal.record_usage_refund(uuid, uuid, numeric),
  internal.allocate_credits_batch(uuid, jsonb, text, text, text, text)
to tallybook_upkeep;

alter function public.allocate_credits(uuid, text, numeric, text, text, text, int, timestamptz, text, text, text) owner to tallybook_upkeep;
alter function public.bulk_allocate_credits(uuid, jsonb, text, text, text, text) owner to tallybook_upkeep;
alter function public.refund_credits(uuid, text, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.allocate_monthly_credits(int) owner to tallybook_upkeep;
alter function public.expire_credits(int) owner to tallybook_upkeep;
alter function public.credit_lots(uuid) owner to tallybook_procedures;
alter function public.credit_transactions_page(uuid, text, timestamptz, timestamptz, int, int, text) owner to tallybook_procedures;
alter function public.credit_transaction(uuid, uuid) owner to tallybook_procedures;

grant execute on function
  public.allocate_credits(uuid, text, numeric, text, text, text, int, timestamptz, text, text, text),
  public.bulk_allocate_credits(uuid, jsonb, text, text, text, text), public.refund_credits(uuid, text, uuid, numeric, text, text, text, text),
  public.credit_lots(uuid), public.credit_transactions_page(uuid, text, timestamptz, timestamptz, int, int, text),
  public.credit_transaction(uuid, uuid)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.allocate_monthly_credits(int), public.expire_credits(int)
to service_role, tallybook_worker, tallybook_operator;

-- Usage.
revoke all on
  internal.usage_by_month, internal.usage_discrepancies, public.credit_low_balances, public.credit_unusual_spending, public.credit_failure_spikes
from public, anon, authenticated, service_role;
grant select on internal.usage_by_month to tallybook_upkeep, tallybook_operator;
grant select on internal.usage_discrepancies to tallybook_operator;
grant select on public.credit_low_balances, public.credit_unusual_spending, public.credit_failure_spikes to service_role, tallybook_operator;
-- Whoever reads these views asks for the time.
grant execute on function internal.clock() to service_role;
grant update on internal.usage_deltas to tallybook_upkeep;

revoke all on function
  public.fold_usage(int), public.import_usage_events(text, jsonb), public.usage_statistics(uuid, text, timestamptz, timestamptz),
  public.credit_analytics_system(uuid, timestamptz, timestamptz), public.credit_analytics_top_spenders(uuid, date, int),
  public.credit_analytics_distribution(uuid)
from public, anon, authenticated, service_role;
alter function public.fold_usage(int) owner to tallybook_upkeep;
alter function public.import_usage_events(text, jsonb) owner to tallybook_upkeep;
alter function public.usage_statistics(uuid, text, timestamptz, timestamptz) owner to tallybook_procedures;
alter function public.credit_analytics_system(uuid, timestamptz, timestamptz) owner to tallybook_upkeep;
alter function public.credit_analytics_top_spenders(uuid, date, int) owner to tallybook_upkeep;
alter function public.credit_analytics_distribution(uuid) owner to tallybook_upkeep;
grant execute on function public.fold_usage(int) to tallybook_worker, tallybook_operator;
grant execute on function public.import_usage_events(text, jsonb) to tallybook_operator;
grant execute on function public.usage_statistics(uuid, text, timestamptz, timestamptz) to tallybook_functions, service_role, tallybook_operator;
grant execute on function
  public.credit_analytics_system(uuid, timestamptz, timestamptz), public.credit_analytics_top_spenders(uuid, date, int),
  public.credit_analytics_distribution(uuid)
to tallybook_functions, service_role, tallybook_operator;

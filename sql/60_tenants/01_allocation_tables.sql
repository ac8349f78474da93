-- What the platform's side of tenants needs beside their tables. Runs once.

-- What is asked of allocations, for the whole platform: one row.
create table public.allocation_limits (
  is_the_one              boolean primary key default true check (is_the_one),
  allocations_per_hour_max int default 100 check (allocations_per_hour_max > 0),  -- per administrator and per address; null: any number
  large_allocation_above  numeric(15, 2) default 1000000  -- an alert beyond it; null: never
                          check (large_allocation_above between 0 and 9999999999999.99),
  updated_at              timestamptz not null default internal.clock()
);

insert into public.allocation_limits (is_the_one) values (true);

create trigger allocation_limits_are_audited after insert or update or delete on public.allocation_limits
for each row execute function internal.audit_change('is_the_one');

-- The settings of tenants and who belongs to them; what the procedures write there is told by the ledger.
create trigger tenants_are_audited
after insert or delete or update of name, currency, currency_label, allocation_mode, award_tiers, peer_to_peer_enabled,
  redemptions_paused, wallets_permanent, expiry_policy, wallet_expiry_policy, low_balance_threshold, auto_refill_threshold,
  auto_refill_amount, is_active
on public.tenants
for each row execute function internal.audit_change('id');
create trigger tenant_members_are_audited
after insert or delete or update of role, department_id, display_name, is_active on public.tenant_members
for each row execute function internal.audit_change('user_id');

-- Of these the procedures write it down themselves, with the administrator's name.
create trigger departments_are_audited after insert or delete or update of name, monthly_cap on public.departments
for each row when (current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.audit_change('id');
create trigger rewards_are_audited after insert or delete or update on public.rewards
for each row when (current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.audit_change('id');

-- What managers gave into the hands of leads, and took back. The transfer in the ledger bears the row's id.
create table public.lead_delegations (
  tenant_id       uuid not null,
  id              uuid not null default internal.uuidv7(),
  delegated_by    uuid not null,
  lead_user_id    uuid not null,
  amount          numeric(15, 2) not null check (amount <> 0),  -- below zero: taken back
  lead_balance    numeric(15, 2) not null,  -- what stood there after it
  pool_balance    numeric(15, 2) not null,
  reference_note  text,
  idempotency_key text,
  request_hash    text,
  request_id      text,
  created_at      timestamptz not null default internal.clock(),
  primary key (tenant_id, id)
);

create unique index lead_delegations_key on public.lead_delegations (tenant_id, delegated_by, idempotency_key)
  where idempotency_key is not null;
create index lead_delegations_of_tenant on public.lead_delegations (tenant_id, created_at, id);

create trigger lead_delegations_are_append_only before update or delete or truncate on public.lead_delegations
for each statement execute function internal.append_only();

-- What the platform does to a tenant's pool: what becomes a row of platform_billing_logs, and a transfer that bears its id.
create type internal.tenant_bill as (
  tenant_id        uuid,
  id               uuid,
  amount           numeric(15, 2),  -- signed: what it does to the pool
  transaction_type text,
  allocation_id    uuid,
  admin_id         uuid,
  actor            text,
  reference_note   text,
  idempotency_key  text,
  request_hash     text,
  request_id       text
);

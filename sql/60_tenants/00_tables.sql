-- Tenants: companies, their pools, their people's wallets, and what people give one another. Runs once.
-- A tenant is a book. Its pool, the leads' budgets and everybody's wallets are accounts in it; amounts have two decimal places
-- here, and are whole hundredths in the ledger.

insert into ledger.assets (asset, scale) values ('tenant_points', 2);

insert into ledger.chart_of_accounts (account, asset, floor, meaning) values
  ('tenant.pool',     'tenant_points', 0,    'what a tenant can award'),
  ('tenant.lead',     'tenant_points', 0,    'what a lead can award: tenant.lead:<user>'),
  ('tenant.budget',   'tenant_points', 0,    'what a department can award, of old: tenant.budget:<department>'),
  ('tenant.wallet',   'tenant_points', 0,    'what a member can spend: tenant.wallet:<user>'),
  ('tenant.platform', 'tenant_points', null, 'where a tenant''s points come from, and where they are clawed back to'),
  ('tenant.adjusted', 'tenant_points', null, 'what somebody put right'),
  ('tenant.legacy',   'tenant_points', null, 'where the budgets and wallets of old were filled from'),
  ('tenant.redeemed', 'tenant_points', null, 'where redeemed points go'),
  ('tenant.expired',  'tenant_points', null, 'where points go that were not spent in time');

-- What a column may hold is said by its type where rows are written often: a domain looks at what is written to the column itself,
-- a CHECK of the table is read anew by every statement that writes any of it.
-- squawk-ignore ban-create-domain-with-constraint
create domain public.currency_code as text check (value ~ '^[A-Z]{3}$');
-- squawk-ignore ban-create-domain-with-constraint
create domain public.percentage as numeric(5, 2) check (value between 0 and 100);
-- squawk-ignore ban-create-domain-with-constraint
create domain public.points_amount as numeric(15, 2) check (value between 0 and 9999999999999.99);
-- squawk-ignore ban-create-domain-with-constraint
create domain public.allocation_mode as text check (value in ('enforced', 'legacy_fallback'));
-- squawk-ignore ban-create-domain-with-constraint
create domain public.expiry_policy as text check (value in ('90_days', '180_days', '1_year', 'never'));
-- squawk-ignore ban-create-domain-with-constraint
create domain public.wallet_transaction_type as text check (value in ('credit', 'debit'));
-- squawk-ignore ban-create-domain-with-constraint
create domain public.wallet_source as text check (value in ('hr_allocation', 'recognition', 'redemption', 'adjustment', 'expiry', 'reversal'));
-- squawk-ignore ban-create-domain-with-constraint
create domain public.recognition_type as text check (value in ('standard', 'individual_award', 'group_award', 'ecard'));
-- squawk-ignore ban-create-domain-with-constraint
create domain public.recognition_funding as text check (value in ('pool', 'lead', 'budget', 'wallet', 'nothing'));
-- squawk-ignore ban-create-domain-with-constraint
create domain public.recognition_visibility as text check (value in ('public', 'private', 'department'));
-- squawk-ignore ban-create-domain-with-constraint
create domain public.recognition_status as text check (value in ('pending', 'active', 'rejected', 'revoked'));

create table public.tenants (
  id                        uuid primary key default internal.uuidv7(),
  name                      text not null check (name ~ '\S'),
  points_allocation_balance numeric(15, 2) not null default 0,  -- a cache of the pool in the ledger
  budget_allocation_balance numeric(15, 2) generated always as (points_allocation_balance) stored,  -- what it was called before
  currency                  public.currency_code not null default 'INR',
  currency_label            text not null default 'Points',
  allocation_mode           public.allocation_mode not null default 'enforced',
  award_tiers               jsonb not null default '{"Gold": 5000, "Silver": 2500, "Bronze": 1000}',
  peer_to_peer_enabled      boolean not null default true,
  redemptions_paused        boolean not null default false,
  wallets_permanent         boolean not null default true,  -- else its managers may revoke recognitions that brought points
  expiry_policy             public.expiry_policy not null default 'never',
  wallet_expiry_policy      public.expiry_policy not null default 'never',  -- what is in wallets already goes by it too
  low_balance_threshold     public.points_amount not null default 100,
  auto_refill_threshold     public.percentage not null default 20,  -- percent of the last refill
  auto_refill_amount        numeric(15, 2) check (auto_refill_amount between 0.01 and 9999999999999.99),  -- null: never
  allocations_due_at        timestamptz,  -- until when none of the pool's lots ends; null: none does
  is_active                 boolean not null default true,
  created_at                timestamptz not null default internal.clock(),
  updated_at                timestamptz not null default internal.clock(),
  constraint positive_points_allocation_balance check (points_allocation_balance >= 0)
) with (fillfactor = 80);

create index tenants_whose_wallets_expire on public.tenants (id) where wallet_expiry_policy <> 'never';
create index tenants_with_lots_due on public.tenants (allocations_due_at) where allocations_due_at is not null;
create index tenants_that_refill on public.tenants (id) where auto_refill_amount is not null;

create table public.departments (
  tenant_id      uuid not null,
  id             uuid not null default internal.uuidv7(),
  name           text not null check (name ~ '\S'),
  monthly_cap    numeric(15, 2) check (monthly_cap between 0 and 9999999999999.99),  -- for a calendar month; null: no limit
  budget_balance numeric(15, 2) not null default 0 check (budget_balance >= 0),  -- a cache of its budget of old in the ledger
  created_at     timestamptz not null default internal.clock(),
  primary key (tenant_id, id),
  unique (tenant_id, name)
);

-- Who belongs to a tenant, and as what. A row here is the only thing that gives a role.
create table public.tenant_members (
  tenant_id                 uuid not null,
  user_id                   uuid not null,
  role                      text not null default 'employee'
                            check (role in ('tenant_manager', 'hr_admin', 'tenant_lead', 'dept_lead', 'manager', 'employee')),
  department_id             uuid,
  display_name              text,
  lead_distribution_balance numeric(15, 2) not null default 0 check (lead_distribution_balance >= 0),  -- a cache of the lead's budget
  is_active                 boolean not null default true,
  created_at                timestamptz not null default internal.clock(),
  updated_at                timestamptz not null default internal.clock(),
  primary key (tenant_id, user_id)
) with (fillfactor = 80);

create index tenant_members_of_user on public.tenant_members (user_id);

-- What the platform allocated to a tenant. An allocation is a lot of the pool where the tenant's points expire.
create table public.allocation_logs (
  tenant_id       uuid not null,
  id              uuid not null default internal.uuidv7(),
  allocated_by    uuid,           -- the administrator; null: a program or the command line
  actor           text not null,
  amount          numeric(15, 2) not null check (amount > 0),
  currency        text not null default 'INR',
  status          text not null default 'COMPLETED' check (status in ('COMPLETED', 'REVOKED', 'EXPIRED')),
  reversed_amount numeric(15, 2) not null default 0,
  expired_amount  numeric(15, 2) not null default 0 check (expired_amount >= 0),
  reference_note  text,
  expires_at      timestamptz,
  idempotency_key text,
  request_hash    text,
  request_id      text,
  is_request      boolean not null default true,  -- whether the hourly limit counts it: of a bulk the first one only
  ip_address      inet,           -- where it was asked for, as far as that is known
  ip_network      cidr generated always as (
                    network(set_masklen(ip_address, case family(ip_address) when 6 then 64 else 32 end))) stored,
  created_at      timestamptz not null default internal.clock(),
  updated_at      timestamptz not null default internal.clock(),
  primary key (tenant_id, id),
  constraint no_more_is_reversed_than_was_allocated check (reversed_amount >= 0 and reversed_amount + expired_amount <= amount)
);

create unique index allocation_logs_key on public.allocation_logs (tenant_id, idempotency_key) where idempotency_key is not null;
create index idx_allocation_logs_tenant_id on public.allocation_logs (tenant_id, created_at, id);
create index idx_allocation_logs_allocated_by on public.allocation_logs (allocated_by, created_at desc);
create index idx_allocation_logs_created_at on public.allocation_logs (created_at desc);
create index allocation_logs_by_amount on public.allocation_logs (amount, id);
create index allocation_logs_requested_by on public.allocation_logs (allocated_by, created_at desc)
  where is_request and allocated_by is not null;
create index allocation_logs_requested_from on public.allocation_logs (ip_network, created_at desc)
  where is_request and ip_network is not null;
create index idx_allocation_logs_status on public.allocation_logs (status) where status = 'COMPLETED';

-- The platform's own trail of everything that came into a tenant or was taken from it.
create table public.platform_billing_logs (
  tenant_id        uuid not null,
  id               uuid not null default internal.uuidv7(),
  admin_id         uuid,
  actor            text not null default session_user,
  amount           numeric(15, 2) not null,  -- signed: what it did to the tenant
  currency         text not null default 'INR',
  transaction_type text not null check (transaction_type in ('CREDIT_INJECTION', 'CLAWBACK', 'ADJUSTMENT', 'REVERSAL', 'EXPIRY', 'REFILL')),
  balance_after    numeric(15, 2),           -- what the pool held then; null in a row written by hand
  reference_note   text,
  allocation_id    uuid,
  idempotency_key  text,
  request_hash     text,
  request_id       text,
  created_at       timestamptz not null default internal.clock(),
  primary key (tenant_id, id)
);

create unique index platform_billing_logs_key on public.platform_billing_logs (tenant_id, idempotency_key)
  where idempotency_key is not null;
create index platform_billing_logs_of_allocation on public.platform_billing_logs (tenant_id, allocation_id)
  where allocation_id is not null;
create index idx_platform_billing_logs_tenant_id on public.platform_billing_logs (tenant_id, created_at, id);
create index idx_platform_billing_logs_admin_id on public.platform_billing_logs (admin_id, created_at desc);
create index idx_platform_billing_logs_created_at on public.platform_billing_logs (created_at desc);
create index platform_billing_logs_by_amount on public.platform_billing_logs (amount, id);

create table public.wallets (
  tenant_id       uuid not null,
  user_id         uuid not null,
  id              uuid not null default internal.uuidv7(),
  balance         numeric(15, 2) not null default 0 check (balance >= 0),  -- a cache of the wallet in the ledger
  lifetime_earned public.points_amount not null default 0,
  lifetime_spent  public.points_amount not null default 0,
  oldest_lot_at   timestamptz not null default '-infinity',  -- nothing that is left came before; upkeep alone writes it
  created_at      timestamptz not null default internal.clock(),
  updated_at      timestamptz not null default internal.clock(),
  primary key (tenant_id, user_id)
) with (fillfactor = 80);

-- Partial, though every wallet is in it: so nobody who looks for one wallet takes this way through all of a tenant's.
create index wallets_by_oldest_lot on public.wallets (tenant_id, oldest_lot_at) where oldest_lot_at < 'infinity';

-- A wallet's statement. The transfer in the ledger bears the row's id.
create table public.wallet_ledger (
  tenant_id        uuid not null,
  id               uuid not null default internal.uuidv7(),
  wallet_id        uuid not null,
  user_id          uuid not null,
  transaction_type public.wallet_transaction_type not null,
  source           public.wallet_source not null,
  points           numeric(15, 2) not null check (points > 0),
  balance_after    numeric(15, 2) not null,
  reference_type   text,
  reference_id     uuid,
  description      text,
  created_by       uuid,
  created_at       timestamptz not null default internal.clock(),
  primary key (tenant_id, id, user_id)  -- what goes from wallet to wallet stands in both statements
);

create index wallet_ledger_of_user on public.wallet_ledger (tenant_id, user_id, created_at, id);
create index wallet_ledger_of_tenant on public.wallet_ledger (tenant_id, created_at, id);
create index idx_wallet_ledger_created_at on public.wallet_ledger (created_at, id);

create table public.recognitions (
  tenant_id        uuid not null,
  id               uuid not null default internal.uuidv7(),
  from_user_id     uuid,          -- null: the system
  to_user_id       uuid,          -- null: several, who stand in recognition_groups
  recognition_type public.recognition_type not null default 'standard',
  award_tier       text,
  message          text not null check (message ~ '\S'),
  points           public.points_amount not null,  -- all recipients' together
  funded_by        public.recognition_funding not null,
  visibility       public.recognition_visibility not null default 'public',
  status           public.recognition_status not null default 'active',
  department_id    uuid,          -- the giver's, in whose month it counts
  pool_after       numeric(15, 2) not null default 0,  -- what the pool held then: a repeated request is answered as the first
  revoked_at       timestamptz,
  revoked_by       text,
  revoked_reason   text,
  idempotency_key  text,
  request_hash     text,
  request_id       text,
  created_at       timestamptz not null default internal.clock(),
  updated_at       timestamptz not null default internal.clock(),
  primary key (tenant_id, id)
);

create unique index recognitions_key on public.recognitions (tenant_id, from_user_id, idempotency_key) where idempotency_key is not null;
create index recognitions_of_giver on public.recognitions (tenant_id, from_user_id, id);
create index recognitions_of_recipient on public.recognitions (tenant_id, to_user_id, id) where to_user_id is not null;
create index recognitions_of_department on public.recognitions (tenant_id, department_id, created_at) where department_id is not null;

-- Who was recognized together with others. Nearly everybody is by themselves, which the recognition says without a row for it.
create table public.recognition_groups (
  tenant_id      uuid not null,
  recognition_id uuid not null,
  user_id        uuid not null,
  points         public.points_amount not null,
  place          int not null default 1,  -- in the order in which they were named
  entry_id       uuid,  -- the wallet_ledger's row; null where there were no points
  primary key (tenant_id, recognition_id, user_id)
);

create index recognition_groups_of_user on public.recognition_groups (tenant_id, user_id, recognition_id);

-- What wallets are spent on.
create table public.rewards (
  tenant_id   uuid not null,
  id          uuid not null default internal.uuidv7(),
  name        text not null check (name ~ '\S'),
  description text,
  points_cost numeric(15, 2) not null check (points_cost between 0.01 and 9999999999999.99),
  stock       int check (stock >= 0),  -- null: no end
  is_active   boolean not null default true,
  created_at  timestamptz not null default internal.clock(),
  updated_at  timestamptz not null default internal.clock(),
  primary key (tenant_id, id)
);

create table public.reward_redemptions (
  tenant_id       uuid not null,
  id              uuid not null default internal.uuidv7(),
  user_id         uuid not null,
  reward_id       uuid not null,
  points          numeric(15, 2) not null check (points > 0),
  status          text not null default 'completed' check (status in ('completed', 'refunded')),
  entry_id        uuid not null,
  idempotency_key text,
  request_hash    text,
  request_id      text,
  created_at      timestamptz not null default internal.clock(),
  primary key (tenant_id, id)
);

create unique index reward_redemptions_key on public.reward_redemptions (tenant_id, user_id, idempotency_key) where idempotency_key is not null;
create index reward_redemptions_of_user on public.reward_redemptions (tenant_id, user_id, created_at);

-- Edge-triggered: one row a crossing.
create table public.tenant_alerts (
  tenant_id  uuid not null,
  id         uuid not null default internal.uuidv7(),
  kind       text not null check (kind in ('low_balance', 'empty', 'large_allocation', 'refilled')),
  threshold  numeric(15, 2),
  balance    numeric(15, 2) not null,
  created_at timestamptz not null default internal.clock(),
  primary key (tenant_id, id)
);

create trigger platform_billing_logs_are_append_only before update or delete or truncate on public.platform_billing_logs
for each statement execute function internal.append_only();
create trigger wallet_ledger_is_append_only before update or delete or truncate on public.wallet_ledger
for each statement execute function internal.append_only();
create trigger recognition_groups_are_append_only before update or delete or truncate on public.recognition_groups
for each statement execute function internal.append_only();

-- These say what became of something, and so they change; none of them is ever taken away.
create trigger allocation_logs_are_kept before delete or truncate on public.allocation_logs
for each statement execute function internal.append_only();
create trigger recognitions_are_kept before delete or truncate on public.recognitions
for each statement execute function internal.append_only();
create trigger reward_redemptions_are_kept before delete or truncate on public.reward_redemptions
for each statement execute function internal.append_only();
create trigger tenants_are_kept before truncate on public.tenants
for each statement execute function internal.append_only();

-- One movement of a tenant's points, as a procedure asks for it; internal.tenant_move(…) makes one by names.
create type internal.tenant_movement as (
  tenant_id      uuid,
  id             uuid,             -- the transfer's; where a wallet is touched the wallet_ledger row's too
  from_account   text,
  to_account     text,
  amount         numeric(15, 2),
  kind           text,
  source_type    text,             -- what caused it: allocation_log, recognition, …
  source_id      uuid,
  wallet_source  text,             -- how the wallet's statement calls it
  description    text,
  created_by     uuid,
  created_at     timestamptz
);

-- What it did to one of its two accounts.
create type internal.tenant_leg as (
  position      int,
  is_to         boolean,
  tenant_id     uuid,
  kind          text,             -- tenant.pool, tenant.wallet, …
  owner         uuid,             -- whose it is, where there are many of the kind
  delta         numeric(15, 2),
  balance       numeric(15, 2),   -- after it; null for a counterparty
  id            uuid,
  wallet_source text,
  source_type   text,
  source_id     uuid,
  description   text,
  created_by    uuid,
  created_at    timestamptz
);

-- What became of it, in the movement's place.
create type internal.tenant_moved as (
  position     int,
  id           uuid,
  outcome      text,            -- 'posted' | 'replayed' | 'insufficient_funds' (nothing was written)
  from_balance numeric(15, 2),  -- after it; null for a counterparty, and where it was not posted
  to_balance   numeric(15, 2)
);

-- One of a tenant's accounts.
create type internal.tenant_account as (
  tenant_id uuid,
  account   text
);

-- A recognition as it is asked for; `award` means by those alone who give their company's points.
create type internal.recognition_request as (
  user_id          uuid,
  tenant_id        uuid,
  recipients       uuid[],
  points           numeric,
  message          text,
  recognition_type text,
  award_tier       text,
  split            text,
  visibility       text,
  award            boolean,
  idempotency_key  text,
  request_id       text
);

-- What is known of it on its way: from where it can be paid, in order, and from where it was.
create type internal.recognition_ask as (
  position         int,
  id               uuid,
  tenant_id        uuid,
  asked_by         uuid,
  from_user_id     uuid,           -- null: the system
  department_id    uuid,
  monthly_cap      numeric(15, 2),
  recipients       uuid[],
  shares           numeric[],      -- each recipient's points, in their places
  entries          uuid[],         -- and what the entries in their wallets are called, in order; the first names the recognition too
  moves_before     int,            -- how many movements of the set come before this one's; null: it moves nothing
  points           numeric,        -- all of them
  message          text,
  recognition_type text,
  award_tier       text,
  visibility       text,
  sources          text[],         -- accounts that may pay
  source           text,           -- the one that does
  pool_after       numeric(15, 2),
  idempotency_key  text,
  request_hash     text,
  request_id       text,
  verdict          text,           -- null: it is given; 'known'; or the refusal's code
  detail           text
);

-- What became of it, as both who gave and who awards are answered.
create type internal.recognition_given as (
  position   int,
  id         uuid,
  points     text,
  recipients jsonb,    -- [{user_id, points, new_wallet_balance, ledger_entry_id}], as they were named
  funded_by  text,
  pool       text,
  replayed   boolean,
  refusal    jsonb
);

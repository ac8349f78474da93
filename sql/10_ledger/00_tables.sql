-- The book. Runs once.
-- A book is one owner's set of accounts: a user, or a tenant. Amounts are integers in the asset's smallest unit.

create table ledger.assets (
  asset text primary key check (asset ~ '^[a-z][a-z_]*$'),
  scale int  not null check (scale between 0 and 9)  -- decimal places of the smallest unit
);

create table ledger.chart_of_accounts (
  account text primary key check (account ~ '^[a-z_]+(\.[a-z_]+)*$'),
  asset   text not null references ledger.assets,
  floor   bigint,  -- what a new account may not fall below; null: a counterparty, which has no floor and keeps no balance
  meaning text not null
);

-- An account bears its name in the chart; one of many of a kind has what tells it apart after a colon: tenant.wallet:<user>.
-- A type of its own, so that it is looked at where an account is opened and not wherever its balance changes.
-- squawk-ignore ban-create-domain-with-constraint
create domain ledger.account_name as text check (value ~ '^[^:]+(:[^:]+)?$');

create table ledger.accounts (
  book_id    uuid   not null,
  account    ledger.account_name not null,
  kind       text   not null generated always as (split_part(account, ':', 1)) stored references ledger.chart_of_accounts,
  asset      text   not null,
  balance    bigint not null default 0,
  held       bigint not null default 0,
  floor      bigint not null default 0,
  updated_at timestamptz not null default internal.clock(),
  primary key (book_id, account),
  constraint held_is_not_negative check (held >= 0),
  constraint available_is_not_below_floor check (balance - held >= floor)
) with (fillfactor = 80);  -- balances change in place: no index entry is written for a posting

create table ledger.transfers (
  book_id      uuid   not null,
  transfer_id  uuid   not null,  -- named by its cause, so that a repeated posting is the same transfer
  from_account text   not null,
  to_account   text   not null,
  asset        text   not null,
  amount       bigint not null,
  kind         text   not null check (kind ~ '^[a-z][a-z_]*$'),
  source_type  text   not null,
  source_id    uuid   not null,
  effective_at timestamptz not null,                            -- when it counts
  recorded_at  timestamptz not null default internal.clock(),   -- when the book learned of it
  primary key (book_id, transfer_id),
  constraint amount_is_positive check (amount > 0),
  constraint two_sides check (from_account <> to_account)
);

create trigger transfers_are_append_only
before update or delete or truncate on ledger.transfers
for each statement execute function internal.append_only();

create table ledger.holds (
  book_id      uuid   not null,
  hold_id      uuid   not null,
  account      text   not null,
  amount       bigint not null,
  settled      bigint not null default 0,
  status       text   not null default 'held' check (status in ('held', 'settled', 'released', 'expired')),
  source_type  text   not null,
  source_id    uuid   not null,
  expires_at   timestamptz not null,
  created_at   timestamptz not null default internal.clock(),
  closed_at    timestamptz,
  primary key (book_id, hold_id),
  foreign key (book_id, account) references ledger.accounts (book_id, account),
  constraint amount_is_positive check (amount > 0),
  constraint settled_is_part_of_amount check (settled between 0 and amount),
  constraint closed_means_not_held check ((status = 'held') = (closed_at is null))
);

create index holds_to_expire on ledger.holds (expires_at) where status = 'held';

-- One movement of value, as a product asks for it.
create type ledger.posting as (
  transfer_id  uuid,
  book_id      uuid,
  from_account text,
  to_account   text,
  amount       bigint,
  kind         text,
  source_type  text,
  source_id    uuid,
  effective_at timestamptz
);

-- What became of it, in the posting's place.
create type ledger.posted as (
  position       int,
  transfer_id    uuid,
  outcome        text,    -- 'posted' | 'replayed' (it was there already) | 'insufficient_funds' (nothing was written)
  from_available bigint,  -- what the account it left can spend after the whole set; null for a counterparty, and of what is refused
  to_available   bigint   -- the same for the account it reached
);

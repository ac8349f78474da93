-- Credits: what users have, lot by lot, what they used, and what using a model costs. Runs once.
-- Amounts are credits with six decimal places here, and whole millionths of a credit in the ledger.

insert into ledger.assets (asset, scale) values ('credits', 6);

insert into ledger.chart_of_accounts (account, asset, floor, meaning) values
  ('credits',          'credits', 0,    'what a user can spend'),
  ('credits.sold',     'credits', null, 'where bought credits come from'),
  ('credits.granted',  'credits', null, 'where given credits come from'),
  ('credits.used',     'credits', null, 'where used credits go'),
  ('credits.expired',  'credits', null, 'where credits go that were not used in time'),
  ('credits.adjusted', 'credits', null, 'what an administrator put right');

-- Prices. A version is a whole price list; once it is in force it does not change, and a new one takes its place.
create table public.pricing_versions (
  version        int primary key check (version > 0),
  effective_from timestamptz not null unique,
  default_price  numeric(18, 9) not null check (default_price >= 0),  -- of 1,000 tokens of a model that has no price
  note           text,
  created_by     text not null default session_user,
  created_at     timestamptz not null default internal.clock()
);

create table public.pricing_models (
  version      int not null references public.pricing_versions,
  model        text not null check (model ~ '^\S{1,200}$'),
  price_per_1k numeric(18, 9) not null check (price_per_1k >= 0),
  primary key (version, model)
);

create table public.pricing_providers (
  version      int not null references public.pricing_versions,
  provider     text not null check (provider ~ '^\S{1,100}$'),  -- 'openrouter:mixtral' is what begins so at that provider
  price_per_1k numeric(18, 9) not null check (price_per_1k >= 0),
  primary key (version, provider)
);

create table public.pricing_power_levels (
  version              int not null references public.pricing_versions,
  power_level          text not null check (power_level ~ '^[a-z][a-z_]*$'),
  cost_multiplier      numeric(9, 4) not null check (cost_multiplier >= 0),
  max_tokens           int not null check (max_tokens > 0),  -- what a reservation that names no tokens reckons with
  temperature          numeric(3, 2) not null,
  max_cost_per_request numeric(18, 6) check (max_cost_per_request > 0),  -- what is reserved where no price is known; null: nothing
  quality              numeric(3, 2) not null,
  latency              text not null,
  preferred_providers  text[] not null,
  primary key (version, power_level)
);

create table public.pricing_tiers (
  version           int not null references public.pricing_versions,
  tier              text not null check (tier ~ '^[a-z][a-z_]*$'),
  markup            numeric(9, 4) not null check (markup >= 0),
  monthly_credits   numeric(18, 6) check (monthly_credits >= 0),  -- null: as many as are used; the account may owe
  rollover_max      numeric(18, 6) not null default 0 check (rollover_max >= 0),  -- how many unused ones keep for another month
  low_balance_below numeric(18, 6) not null default 100 check (low_balance_below >= 0),
  position          int not null,  -- from the smallest to the largest
  primary key (version, tier)
);

insert into public.pricing_versions (version, effective_from, default_price, note, created_by)
values (1, 'epoch', 0.01, 'The first price list', 'tallybook');

insert into public.pricing_models (version, model, price_per_1k) values
  (1, 'llama3-8b-local',              0),
  (1, 'qwen-32b-local',               0),
  (1, 'llama3-70b-groq',              0),
  (1, 'mixtral-8x7b-hf',              0),
  (1, 'mixtral-8x22b-together',       0.002),
  (1, 'llama3-70b-deepinfra',         0.003),
  (1, 'qwen-72b-fireworks',           0.002),
  (1, 'claude-3.5-sonnet-openrouter', 0.008),
  (1, 'gpt-4o-openrouter',            0.010),
  (1, 'claude-3.5-sonnet',            0.015),
  (1, 'gpt-4o',                       0.015);

insert into public.pricing_providers (version, provider, price_per_1k) values
  (1, 'local',                 0),
  (1, 'groq',                  0),
  (1, 'huggingface',           0),
  (1, 'together',              0.002),
  (1, 'fireworks',             0.002),
  (1, 'deepinfra',             0.003),
  (1, 'openrouter:mixtral',    0.003),
  (1, 'openrouter:claude-3.5', 0.008),
  (1, 'openrouter:gpt-4o',     0.010),
  (1, 'anthropic',             0.015),
  (1, 'openai',                0.015);

insert into public.pricing_power_levels (
       version, power_level, cost_multiplier, max_tokens, temperature, max_cost_per_request, quality, latency, preferred_providers) values
  (1, 'eco',       0.1,  2000,  0.7, 0.001, 0.6,  'normal',  '{local,groq,huggingface}'),
  (1, 'balanced',  0.25, 4000,  0.8, 0.01,  0.8,  'fast',    '{together,fireworks,openrouter}'),
  (1, 'precision', 1.0,  16000, 0.3, 0.1,   0.95, 'instant', '{anthropic,openai,openrouter:premium}');

insert into public.pricing_tiers (version, tier, markup, monthly_credits, position) values
  (1, 'free',         0,   0,    1),
  (1, 'trial',        0,   5,    2),
  (1, 'starter',      0.4, 20,   3),
  (1, 'professional', 0.6, 60,   4),
  (1, 'enterprise',   0.8, null, 5);

-- What credits are sold in.
create table public.credit_packages (
  package    text primary key check (package ~ '^[a-z0-9][a-z0-9_]*$'),
  credits    numeric(18, 6) not null check (credits > 0),
  price      numeric(12, 2) not null check (price >= 0),
  currency   text not null default 'USD' check (currency ~ '^[A-Z]{3}$'),
  is_active  boolean not null default true,
  updated_at timestamptz not null default internal.clock()
);

insert into public.credit_packages (package, credits, price) values
  ('credits_10000', 10000, 10), ('credits_55000', 55000, 50), ('credits_120000', 120000, 100);

-- What each user has, as a cache of the ledger, and on which terms. Who has no row is as fresh as free.
create table public.user_credits (
  user_id           uuid primary key,
  id                uuid not null default internal.uuidv7(),
  balance           numeric(18, 6) not null default 0,  -- what is reserved is in it
  credits_remaining numeric(18, 6) generated always as (balance) stored,
  credits_allocated numeric(18, 6) not null default 0 check (credits_allocated >= 0),  -- all that ever came, refunds apart
  tier              text not null default 'free',
  monthly_cap       numeric(18, 6) check (monthly_cap >= 0),  -- what a calendar month's usage may cost; null: no limit
  last_reset        timestamptz,                              -- when the tier's monthly credits came last
  allocation_due_at timestamptz,                              -- when they come next; null: never
  lots_due_at       timestamptz not null default 'infinity',  -- before this nothing of theirs expires
  version           bigint not null default 0,                -- counts the changes, so that a cache never goes back
  created_at        timestamptz not null default internal.clock(),
  updated_at        timestamptz not null default internal.clock()
) with (fillfactor = 80);

-- Nothing hot writes these columns, so a changed balance touches no index.
create index idx_user_credits_tier           on public.user_credits (tier);
create index idx_user_credits_lots_due       on public.user_credits (lots_due_at) where lots_due_at < 'infinity';
create index idx_user_credits_allocation_due on public.user_credits (allocation_due_at) where allocation_due_at is not null;

-- The statement: every movement of a user's credits, signed. The transfer in the ledger bears its id.
create table public.credit_transactions (
  user_id          uuid not null,
  id               uuid not null default internal.uuidv7(),
  amount           numeric(18, 6) not null,
  balance_after    numeric(18, 6) not null,
  transaction_type text not null
                   check (transaction_type in ('usage', 'purchase', 'bonus', 'refund', 'adjustment', 'allocation', 'expiry')),
  reason           text,
  provider         text,
  model            text,
  power_level      text,
  tokens_used      bigint check (tokens_used >= 0),
  cost             numeric(18, 6) check (cost >= 0),  -- what the usage was worth; more than the amount where it could not be had
  metadata         jsonb,
  refund_of        uuid,
  idempotency_key  text,
  request_hash     text,  -- what came under the key, so that another request under it is told apart
  actor            text,  -- the administrator or program behind it; null: the user
  request_id       text,
  created_at       timestamptz not null default internal.clock(),
  primary key (user_id, id)
);

create index idx_credit_transactions_user_created  on public.credit_transactions (user_id, created_at desc, id desc);
create index idx_credit_transactions_user_type     on public.credit_transactions (user_id, transaction_type, created_at desc, id desc);
create unique index idx_credit_transactions_key    on public.credit_transactions (user_id, idempotency_key) where idempotency_key is not null;
create index idx_credit_transactions_refund_of     on public.credit_transactions (refund_of, user_id) where refund_of is not null;
create index idx_credit_transactions_created       on public.credit_transactions using brin (created_at);

create trigger credit_transactions_are_append_only
before update or delete or truncate on public.credit_transactions
for each statement execute function internal.append_only();

-- Lots: credits that came together, with where from and until when. The lot bears the id of the transaction that brought it.
create table public.credit_grants (
  user_id    uuid not null,
  grant_id   uuid not null,
  source     text not null check (source ~ '^[a-z][a-z_]*$'),
  priority   int  not null default 100,  -- the lowest is spent first; among equals the first to expire
  amount     numeric(18, 6) not null check (amount > 0),
  remaining  numeric(18, 6) not null check (remaining >= 0),
  is_open    boolean not null generated always as (remaining > 0) stored,
  expires_at timestamptz,                -- null: never
  created_at timestamptz not null default internal.clock(),
  primary key (user_id, grant_id)
) with (fillfactor = 80);

create index idx_credit_grants_open on public.credit_grants (user_id, priority, expires_at, created_at) where is_open;

-- What each transaction brought to a lot or took from it: a lot's remaining credits are their sum.
create table public.credit_lot_entries (
  user_id        uuid not null,
  transaction_id uuid not null,
  grant_id       uuid not null,
  amount         numeric(18, 6) not null check (amount <> 0),
  primary key (user_id, transaction_id, grant_id)
);

create index idx_credit_lot_entries_grant on public.credit_lot_entries (user_id, grant_id);

create trigger credit_lot_entries_are_append_only
before update or delete or truncate on public.credit_lot_entries
for each statement execute function internal.append_only();

-- What was set aside before a call of a model, and what it was reckoned from. Whether it is still held is the ledger's to say:
-- the hold bears the reservation's id. What costs nothing has no hold, and internal.credit_reservation_status tells how it stands.
create table public.credit_reservations (
  user_id          uuid not null,
  id               uuid not null default internal.uuidv7(),  -- the hold's id, and the transaction's that settles it
  amount           numeric(18, 6) not null check (amount >= 0),
  model            text,
  provider         text,
  power_level      text not null,
  tokens           bigint check (tokens >= 0),
  tier             text not null,
  pricing_version  int not null,
  is_price_known   boolean not null,
  by_user          boolean not null,         -- with the user's own token; else only a program ends it
  balance          numeric(18, 6) not null,  -- what the user had then,
  available        numeric(18, 6) not null,  -- and could still spend,
  available_again  numeric(18, 6),           -- and could spend when it was released: a replay is told the same
  metadata         jsonb,
  idempotency_key  text,
  request_hash     text not null,
  request_id       text,
  expires_at       timestamptz not null,
  released_at      timestamptz,              -- of what has no hold that could tell it
  created_at       timestamptz not null default internal.clock(),
  primary key (user_id, id),
  constraint a_hold_tells_of_its_own_release check (amount = 0 or released_at is null)
);

create unique index idx_credit_reservations_key on public.credit_reservations (user_id, idempotency_key) where idempotency_key is not null;

-- Every use of a model, whether it cost anything or not.
create table public.usage_events (
  user_id         uuid not null,
  id              uuid not null default internal.uuidv7(),
  event_type      text not null default 'usage' check (event_type ~ '^[a-z][a-z_.]*$'),
  service         text,
  provider        text,
  model           text,
  power_level     text,
  tokens_used     bigint not null default 0 check (tokens_used >= 0),
  cost            numeric(18, 6) not null default 0 check (cost >= 0),  -- what was charged
  success         boolean not null default true,
  metadata        jsonb,
  tier            text,
  pricing_version int,
  transaction_id  uuid,  -- null: nothing was charged for it here
  source          text,  -- where it was imported from
  payload_hash    text,  -- what was imported, so that it is imported once
  created_at      timestamptz not null default internal.clock(),  -- when it happened
  recorded_at     timestamptz not null default internal.clock(),
  primary key (user_id, id)
);

create index idx_usage_events_user_created   on public.usage_events (user_id, created_at desc, id desc);
create unique index idx_usage_events_payload on public.usage_events (user_id, payload_hash) where payload_hash is not null;
create index idx_usage_events_transaction    on public.usage_events (user_id, transaction_id) where transaction_id is not null;
create index idx_usage_events_created        on public.usage_events using brin (created_at);
create index idx_usage_events_failed         on public.usage_events (created_at) where not success;

create trigger usage_events_are_append_only
before update or delete or truncate on public.usage_events
for each statement execute function internal.append_only();

-- Usage summed up by month, kept with every event: a user's own, from which the monthly cap is counted.
-- What an event does not tell is the empty text here.
create table public.usage_rollups (
  user_id     uuid not null,
  month       date not null check (extract(day from month) = 1),  -- its first day, in UTC
  provider    text not null,
  model       text not null,
  power_level text not null,
  events      bigint not null,
  failures    bigint not null,
  tokens      numeric(24) not null,
  cost        numeric(18, 6) not null,
  refunded    numeric(18, 6) not null default 0,
  primary key (user_id, month, provider, model, power_level)
) with (fillfactor = 80);

-- Who spent most in a month. Months come one after the other, so a summary of the pages does: a tree would draw the search
-- for one user's month away from the primary key.
create index idx_usage_rollups_month on public.usage_rollups using brin (month) with (pages_per_range = 32);

-- Everybody's together. A row that every call would update would make all calls wait for one another: each adds a row of
-- its own to the deltas, and upkeep folds them in. Both together are always exact.
create table internal.usage_totals (
  month       date not null,
  provider    text not null,
  model       text not null,
  power_level text not null,
  events      bigint not null,
  failures    bigint not null,
  tokens      numeric(24) not null,
  cost        numeric(18, 6) not null,
  refunded    numeric(18, 6) not null,
  primary key (month, provider, model, power_level)
);

create table internal.usage_deltas (
  id          uuid primary key default internal.uuidv7(),
  month       date not null,
  provider    text not null,
  model       text not null,
  power_level text not null,
  events      bigint not null,
  failures    bigint not null,
  tokens      numeric(24) not null,
  cost        numeric(18, 6) not null,
  refunded    numeric(18, 6) not null default 0
);

-- Promotional codes: public words, unlike the secret codes of coupons, so they are kept as they are.
create table public.coupon_codes (
  code                      text primary key check (code = upper(btrim(code)) and code ~ '^\S{3,64}$'),
  discount_type             text not null check (discount_type in ('fixed', 'percentage', 'free_month', 'bonus')),
  discount_value            numeric(18, 6) not null check (discount_value > 0),
  description               text,
  max_uses                  int check (max_uses > 0),           -- by everybody together; null: no limit
  max_uses_per_user         int not null default 1 check (max_uses_per_user > 0),
  times_used                int not null default 0 check (times_used >= 0),
  tier                      text,                               -- free_month: whose month; null: the user's own tier's
  credits_expire_after_days int check (credits_expire_after_days between 1 and 36500),  -- null: never
  valid_from                timestamptz not null default internal.clock(),
  expires_at                timestamptz,                        -- null: never
  is_active                 boolean not null default true,
  created_by                text not null default session_user,
  created_at                timestamptz not null default internal.clock(),
  updated_at                timestamptz not null default internal.clock(),
  constraint it_is_not_used_more_often_than_allowed check (times_used <= max_uses),
  constraint a_percentage_is_at_most_a_hundred check (discount_type <> 'percentage' or discount_value <= 100),
  constraint free_months_are_whole_and_at_most_ten_years_of_them
  check (discount_type <> 'free_month' or discount_value = trunc(discount_value) and discount_value <= 120)
) with (fillfactor = 80);

create index idx_coupon_codes_created on public.coupon_codes (created_at desc);
create index idx_coupon_codes_expires on public.coupon_codes (expires_at) where is_active;

create table public.coupon_redemptions (
  user_id        uuid not null,
  code           text not null,  -- no foreign key: a code that is deleted was redeemed all the same
  redemption     int  not null check (redemption > 0),  -- the user's first, second, … of this code
  discount_type  text not null,
  discount_value numeric(18, 6) not null,
  transaction_id uuid,         -- what it brought at once; a discount's has no credits
  spent_on       uuid,         -- the purchase that the discount went to; null: it waits
  expires_at     timestamptz,  -- until when a discount waits, or what it brought can be spent; null: for ever
  redeemed_at    timestamptz not null default internal.clock(),
  primary key (user_id, code, redemption)
);

create index idx_coupon_redemptions_code    on public.coupon_redemptions (code, redeemed_at desc);
create index idx_coupon_redemptions_waiting on public.coupon_redemptions (user_id, redeemed_at)
  where discount_type = 'percentage' and spent_on is null;

-- Users' own accounts at OpenRouter. The key is encrypted by the functions, which alone can open it.
create table public.openrouter_accounts (
  user_id                      uuid primary key,
  openrouter_api_key_encrypted text not null,
  key_id                       text not null,  -- which encryption key it was encrypted with
  openrouter_account_id        text,
  free_credits                 numeric(18, 6),
  last_synced                  timestamptz,
  created_at                   timestamptz not null default internal.clock(),
  updated_at                   timestamptz not null default internal.clock()
);

create index idx_openrouter_accounts_key_id on public.openrouter_accounts (key_id);
create index idx_openrouter_accounts_synced on public.openrouter_accounts (last_synced);

create trigger pricing_versions_are_audited after insert or update or delete on public.pricing_versions
for each row execute function internal.audit_change('version');
create trigger credit_packages_are_audited after insert or update or delete on public.credit_packages
for each row execute function internal.audit_change('package');
-- Not every use: those have rows of their own.
create trigger coupon_codes_are_audited
after insert or delete or update of code, discount_type, discount_value, description, max_uses, max_uses_per_user, tier,
      credits_expire_after_days, valid_from, expires_at, is_active on public.coupon_codes
for each row execute function internal.audit_change('code');

-- One movement of a user's credits, as a procedure asks for it; internal.credit_move(…) makes one by names.
create type internal.credit_movement as (
  user_id          uuid,
  id               uuid,            -- the transaction's, and the transfer's
  amount           numeric(18, 6),  -- signed; nothing: a usage that was free is written down all the same
  transaction_type text,
  reason           text,
  provider         text,
  model            text,
  power_level      text,
  tokens_used      bigint,
  cost             numeric(18, 6),
  metadata         jsonb,
  refund_of        uuid,
  idempotency_key  text,
  request_hash     text,
  actor            text,
  request_id       text,
  created_at       timestamptz,
  lot_id           uuid,            -- expiry: the lot that ends; else it is taken in the order of the lots
  source           text,            -- of the lot that it brings; null: the transaction's type
  priority         int,
  expires_at       timestamptz
);

-- What became of it, in the movement's place.
create type internal.credit_moved as (
  position      int,
  id            uuid,
  outcome       text,            -- 'posted' | 'insufficient_funds' (nothing was written)
  balance_after numeric(18, 6)
);

-- What a use of a model costs.
create type internal.credit_price as (
  cost            numeric(18, 6),
  price_per_1k    numeric(18, 9),
  is_known        boolean,         -- false: neither the model nor its provider has a price, and the default one was taken
  power_level     text,            -- as it counts: an unknown one is balanced
  tier            text,
  pricing_version int
);

-- What a service says was used, as the corridor hands it on: the arguments of deduct_credits.
create type internal.credit_deduction as (
  user_id         uuid,
  amount          numeric,
  tokens_used     bigint,
  model           text,
  provider        text,
  power_level     text,
  service         text,
  reason          text,
  metadata        jsonb,
  idempotency_key text,
  request_id      text
);

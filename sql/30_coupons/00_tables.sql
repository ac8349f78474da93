-- Coupons: what is on offer, and what was bought with points. Runs once.

create table public.coupon_templates (
  template_id              uuid primary key default gen_random_uuid(),
  template_name            text not null,
  description              text,
  points_cost              int  not null check (points_cost > 0),
  coupon_value_type        text not null check (coupon_value_type in ('percentage', 'fixed_amount', 'product')),
  coupon_value             text not null,
  partner_name             text,
  partner_id               text,
  terms_and_conditions     text,
  expires_after_days       int  not null default 30 check (expires_after_days between 1 and 36500),
  is_active                boolean not null default true,
  max_redemptions_per_user int  default 1 check (max_redemptions_per_user > 0),  -- null: as often as there are points
  max_redemptions          int check (max_redemptions > 0),    -- how many there are for everybody; null: no end
  budget_points            bigint check (budget_points > 0),   -- what all its coupons together may cost; null: no end
  valid_from               timestamptz,                        -- it is on offer from here on; null: always
  valid_until              timestamptz,                        -- and until before this; null: for ever
  metadata                 jsonb not null default '{}',
  created_at               timestamptz not null default internal.clock(),
  updated_at               timestamptz not null default internal.clock(),
  constraint an_offer_begins_before_it_ends check (valid_from < valid_until)
);

create trigger coupon_templates_are_audited
after insert or update or delete on public.coupon_templates
for each row execute function internal.audit_change('template_id');

-- How much of a template is sold. There is a row for what has, or ever had, a limit or a budget, and only such a template
-- is locked when it is sold: whoever buys one waits for the others who do. A refunded coupon was never sold.
create table public.coupon_stock (
  template_id   uuid primary key,
  issued        bigint not null default 0 check (issued >= 0),   -- coupons
  points        bigint not null default 0 check (points >= 0),   -- what they cost
  issued_before bigint not null default 0,  -- what was sold when the limit was last set: a lower limit does not condemn it
  points_before bigint not null default 0
) with (fillfactor = 50);

create table public.coupons (
  coupon_id              uuid primary key default internal.uuidv7(),
  template_id            uuid not null,  -- no foreign key: every redemption would lock the template's one row
  code_hash              text not null unique check (code_hash ~ '^[0-9a-f]{64}$'),  -- HMAC-SHA-256 of the code, made where the secret is
  key_id                 text not null,                                             -- which secret
  plaintext_code         text check (plaintext_code is null),                       -- there for the audits to look at, and always empty
  status                 text not null default 'issued'
                         check (status in ('issued', 'held', 'redeemed', 'expired', 'revoked')),
  issued_to              uuid not null,
  issued_points_cost     int  not null check (issued_points_cost > 0),
  issued_at              timestamptz not null default internal.clock(),
  points_event_id        uuid not null,  -- the redeem_coupon event that paid for it
  points_remaining       bigint,  -- what was left then, for a replay to answer as the first time
  expires_at             timestamptz not null,
  held_until             timestamptz,  -- from then on a hold counts as none, whatever the status says
  held_by                text,         -- who holds it, or was the last to: a user's id, or 'service'
  hold_key               text,         -- and under which key
  redeemed_at            timestamptz,
  redeemed_by            text,         -- a user's id, or 'service'
  redemption_key         text,         -- whoever consumed it gets the first answer again under this key
  redemption_proof       jsonb,
  redemption_terms       jsonb,        -- what it was worth when it was used, as that answer said
  revoked_at             timestamptz,
  revoked_by             text,
  revocation_reason      text,
  request_id             text,         -- of the request that moved its state last
  single_use             boolean not null default true,
  refunded_at            timestamptz,
  refund_points_event_id uuid,
  metadata               jsonb not null default '{}',
  created_at             timestamptz not null default internal.clock(),
  updated_at             timestamptz not null default internal.clock(),
  constraint a_hold_has_a_holder_and_an_end
    check ((status = 'held') = (held_until is not null) and (status <> 'held' or num_nulls(held_by, hold_key) = 0))
);

create index coupons_of_user on public.coupons (issued_to, template_id);
create index coupons_issued on public.coupons using brin (issued_at);
create index coupons_to_expire on public.coupons (expires_at) where status in ('issued', 'held');
create index coupons_held on public.coupons (held_until) where status = 'held';

-- A coupon keeps what it was sold as, whoever writes; only its state moves.
create trigger coupons_keep_their_facts
before update of coupon_id, template_id, code_hash, key_id, issued_to, issued_points_cost, issued_at, points_event_id on public.coupons
for each statement execute function internal.append_only();

create trigger coupons_stay
before delete or truncate on public.coupons
for each statement execute function internal.append_only();

-- Coupons point at their template without a foreign key, so it is switched off and never removed.
create trigger coupon_templates_stay
before delete or truncate on public.coupon_templates
for each statement execute function internal.append_only();

-- What a client wants to buy, as the corridor hands it on: the arguments of redeem_coupon.
create type internal.coupon_request as (
  user_id         uuid,
  template_id     uuid,
  idempotency_key text,
  code_hash       text,
  key_id          text,
  sealed_code     text,
  request_id      text
);

-- Who works at a partner's till: they may verify and consume the coupons of that partner's templates.
create table public.partner_members (
  partner_id text not null,
  user_id    uuid not null,
  created_at timestamptz not null default internal.clock(),
  primary key (user_id, partner_id)
);

create trigger partner_members_are_audited
after insert or update or delete on public.partner_members
for each row execute function internal.audit_change('partner_id');

-- How many wrong codes one user, one device and one address may show in a time.
create table public.coupon_throttles (
  scope          text primary key check (scope in ('user', 'device', 'address')),
  failures_max   int  not null check (failures_max > 0),
  window_seconds int  not null check (window_seconds > 0)
);

insert into public.coupon_throttles (scope, failures_max, window_seconds)
values ('user', 10, 900), ('device', 20, 900), ('address', 50, 900);

create trigger coupon_throttles_are_audited
after insert or update or delete on public.coupon_throttles
for each row execute function internal.audit_change('scope');

-- The wrong codes that each has shown since its window began.
create table public.coupon_attempts (
  scope             text not null,
  subject           text not null,
  window_started_at timestamptz not null,
  failures          int  not null check (failures > 0),
  primary key (scope, subject)
) with (fillfactor = 80);

create index coupon_attempts_to_forget on public.coupon_attempts (window_started_at);

-- A coupon as it lies before whoever shows its code.
create type internal.shown_coupon as (
  coupon_id         uuid,
  status            text,     -- as of now: a hold that has lapsed is none, and what is past its time has expired
  standing          text,     -- 'owner' | 'partner' | 'stranger'; an owner is never anything else
  caller            text,     -- how the caller is written down
  held_by           text,
  hold_key          text,
  held_until        timestamptz,
  redeemed_at       timestamptz,
  redeemed_by       text,
  redemption_key    text,
  redemption_terms  jsonb,
  template_name     text,
  coupon_value_type text,
  coupon_value      text,
  partner_name      text,
  expires_at        timestamptz
);

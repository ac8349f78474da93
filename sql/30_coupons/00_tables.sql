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
  expires_after_days       int  not null default 30 check (expires_after_days > 0),
  is_active                boolean not null default true,
  max_redemptions_per_user int  default 1 check (max_redemptions_per_user > 0),  -- null: as often as there are points
  metadata                 jsonb not null default '{}',
  created_at               timestamptz not null default internal.clock(),
  updated_at               timestamptz not null default internal.clock()
);

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
  redeemed_at            timestamptz,
  redeemed_by            text,
  redemption_proof       jsonb,
  single_use             boolean not null default true,
  refunded_at            timestamptz,
  refund_points_event_id uuid,
  metadata               jsonb not null default '{}',
  created_at             timestamptz not null default internal.clock(),
  updated_at             timestamptz not null default internal.clock()
);

create index coupons_of_user on public.coupons (issued_to, template_id);
create index coupons_issued on public.coupons using brin (issued_at);

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

-- Trust: how far an event is believed. Runs once.

create table public.trust_policies (
  policy_id   text primary key,
  base_score  int not null check (base_score between 0 and 100),    -- what an event starts with
  validate_at int not null check (validate_at between 0 and 100),   -- from here on it counts by itself
  review_at   int not null check (review_at between 0 and 100),     -- from here on a person looks at it; below, it is rejected
  is_active   boolean not null default false,
  updated_at  timestamptz not null default internal.clock(),
  constraint thresholds_are_in_order check (review_at <= validate_at)
);

create unique index one_active_policy on public.trust_policies (is_active) where is_active;

insert into public.trust_policies (policy_id, base_score, validate_at, review_at, is_active) values ('default', 70, 60, 30, true);

create table public.trust_rules (
  rule_id      text primary key,
  feature      text not null check (feature in ('seconds_to_nearest_event')),
  below        numeric not null,          -- the rule hits when the feature is smaller
  weight       int not null,              -- added to the score
  insight_type text not null,             -- what an event that this rule brings down is filed under
  mode         text not null default 'enforce' check (mode in ('off', 'shadow', 'enforce')),
  updated_at   timestamptz not null default internal.clock()
);

-- The nearer rule comes on top of the farther one: 70 - 20 = 50 goes to review, 70 - 20 - 25 = 25 is rejected.
insert into public.trust_rules (rule_id, feature, below, weight, insight_type) values
  ('spacing_under_ten_seconds', 'seconds_to_nearest_event', 10, -20, 'velocity_anomaly'),
  ('spacing_under_one_second',  'seconds_to_nearest_event',  1, -25, 'velocity_anomaly');

create table public.fraud_insights (
  insight_id        uuid primary key default internal.uuidv7(),
  user_id           uuid not null,
  insight_type      text not null check (insight_type in (
                      'velocity_anomaly', 'impossible_location', 'suspicious_pattern', 'device_mismatch', 'replay_attempt',
                      'bulk_submission', 'honeypot_triggered', 'attestation_failure', 'low_trust_score', 'manual_flag')),
  severity          text not null check (severity in ('low', 'medium', 'high', 'critical')),
  score             numeric(5, 2),
  details           jsonb not null default '{}',
  related_event_ids uuid[] not null default '{}',
  resolved          boolean not null default false,
  resolved_at       timestamptz,
  resolved_by       text,
  resolution_notes  text,
  created_at        timestamptz not null default internal.clock(),
  constraint resolved_means_when check (resolved = (resolved_at is not null))
);

create index fraud_insights_of_user on public.fraud_insights (user_id, created_at desc);
create index fraud_insights_open on public.fraud_insights (created_at) where not resolved;

-- What the rules say of one event, and what follows from it.
create type internal.points_score as (
  user_id      uuid,
  event_id     uuid,
  event_type   text,
  event_time   timestamptz,
  points_delta int,
  trust_score  int,
  verdict      text,   -- 'validated' | 'pending_review' | 'rejected'
  insight_type text,   -- what it is filed under when it is not validated
  details      jsonb   -- the rules that hit with what they saw, and the thresholds
);

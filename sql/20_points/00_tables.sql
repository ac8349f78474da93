-- Points: what earns them, what was submitted, what each user has. Runs once.

insert into ledger.assets (asset, scale) values ('points', 0);

insert into ledger.chart_of_accounts (account, asset, floor, meaning) values
  ('points',        'points', 0,    'what a user can spend'),
  ('points.issued', 'points', null, 'where earned points come from'),
  ('points.spent',  'points', null, 'where spent points go'),
  ('points.expired', 'points', null, 'where points go that were not spent in time');

-- Under which terms points are earned: what one user can get in a time, and for how long what was earned keeps.
create table public.points_programs (
  program              text primary key check (program ~ '^[a-z][a-z_]*$'),
  events_per_hour_max  int check (events_per_hour_max > 0),   -- null: no limit, here and below
  events_per_day_max   int check (events_per_day_max > 0),
  points_per_hour_max  int check (points_per_hour_max > 0),
  points_per_day_max   int check (points_per_day_max > 0),
  expires_after_days   int check (expires_after_days between 1 and 36500),  -- null: never
  award_review_above   int check (award_review_above >= 0),   -- an award of more waits for a second administrator
  time_zone            text not null default 'UTC' check ((timestamptz 'epoch' at time zone time_zone) is not null),  -- where the days of a streak begin
  updated_at           timestamptz not null default internal.clock()
);

insert into public.points_programs (program, events_per_hour_max, events_per_day_max, points_per_hour_max, points_per_day_max, award_review_above)
values ('standard', 100, 500, 1000, 5000, 10000);

create table public.points_rules (
  event_type           text primary key check (event_type ~ '^[a-z][a-z_]*$'),
  points               int     not null check (points >= 0),  -- what one event earns; the client never says
  client_submittable   boolean not null,
  description          text    not null,
  program              text    not null default 'standard' references public.points_programs,
  proof_types          text[]  not null default '{internal,google_fit,apple_health,device_attestation}',  -- what a client may bring
  daily_max            int check (daily_max > 0),              -- how many of one user count in 24 hours; null: no limit
  multiplied_by_streak boolean not null default false,
  is_honeypot          boolean not null default false,         -- no honest app sends it: whoever does reads what is not theirs
  updated_at           timestamptz not null default internal.clock()
);

-- Days in a row, from which on an event counts for more. Only what a rule multiplies by streak looks here.
create table public.streak_multipliers (
  days_min   int primary key check (days_min > 1),
  multiplier numeric(4, 2) not null check (multiplier >= 1)
);

insert into public.streak_multipliers (days_min, multiplier) values (7, 1.2), (14, 1.3), (30, 1.5), (90, 2.0);

insert into public.points_rules (event_type, points, client_submittable, description) values
  ('habit_completion',    10, true,  'A habit was completed'),
  ('workout',             20, true,  'A workout was finished'),
  ('morning_reflection',  15, true,  'The morning reflection was written'),
  ('evening_reflection',  15, true,  'The evening reflection was written'),
  ('goal_achieved',       50, true,  'A goal was reached'),
  ('streak_milestone',    25, true,  'A streak reached a milestone'),
  ('activity_completion', 10, true,  'An activity was completed'),
  ('admin_award',          0, false, 'An administrator awarded points'),
  ('admin_deduction',      0, false, 'An administrator took points'),
  ('redeem_coupon',        0, false, 'A coupon was bought with points'),
  ('coupon_refund',        0, false, 'The points of a coupon were given back'),
  ('history_import',       0, false, 'Points earned before this book was kept'),
  ('points_expiry',        0, false, 'Points were not spent in time'),
  ('bonus_claim',          0, true,  'A bait: no honest app sends it');

update public.points_rules set multiplied_by_streak = true where event_type = 'habit_completion';
update public.points_rules set is_honeypot = true where event_type = 'bonus_claim';

create trigger points_programs_are_audited
after insert or update or delete on public.points_programs
for each row execute function internal.audit_change('program');

create trigger points_rules_are_audited
after insert or update or delete on public.points_rules
for each row execute function internal.audit_change('event_type');

create trigger streak_multipliers_are_audited
after insert or update or delete on public.streak_multipliers
for each row execute function internal.audit_change('days_min');

create table public.points_events (
  user_id             uuid not null,
  id                  uuid not null default internal.uuidv7(),
  event_type          text not null,  -- no foreign key: every event would lock the one row of its rule
  event_time          timestamptz not null,
  points_delta        int  not null,
  proof_type          text not null default 'internal'
                      check (proof_type in ('internal', 'google_fit', 'apple_health', 'device_attestation', 'manual_admin', 'automatic')),
  proof_payload       jsonb,
  validation_status   text not null default 'pending'
                      check (validation_status in ('pending', 'validating', 'pending_review', 'flagged', 'validated', 'rejected')),
  validated_at        timestamptz,
  validated_by        text,
  validation_notes    text,
  trust_score         numeric(5, 2) check (trust_score between 0 and 100),
  streak_days         int,  -- the streak that multiplied its points
  related_entity_type text,
  related_entity_id   uuid,
  nonce               text,
  payload_hash        text not null,
  device_id           text check (length(device_id) <= 200),
  device_info         jsonb,
  ip_address          inet,
  attestation         text  -- what its device's evidence was worth; null where no device was asked
                      check (attestation in ('verified', 'failed', 'missing', 'unsupported', 'unavailable', 'not_configured')),
  device_key          text,  -- the registered key that signed it
  request_id          text,
  transfer_id         uuid,  -- the transfer that moved these points; null until then
  created_at          timestamptz not null default internal.clock(),
  updated_at          timestamptz not null default internal.clock(),
  primary key (user_id, id),
  unique (user_id, payload_hash),
  constraint a_validated_event_moves_points_under_its_own_name
    check (transfer_id is null or transfer_id = id and validation_status = 'validated')
) with (fillfactor = 80);

create index points_events_history on public.points_events (user_id, event_time desc);
-- What is not finished: waiting, in review, or validated by hand and not posted. Ids are ordered by time, so the oldest
-- of each comes first. One index and not three, because every insert evaluates every predicate.
create index points_events_unfinished on public.points_events (validation_status, id)
  where transfer_id is null and validation_status <> 'rejected';
create index points_events_created on public.points_events using brin (created_at);

create table public.user_points_cache (
  user_id          uuid primary key,
  available_points bigint not null default 0 check (available_points >= 0),
  pending_points   bigint not null default 0,
  lifetime_earned  bigint not null default 0 check (lifetime_earned >= 0),
  lifetime_spent   bigint not null default 0 check (lifetime_spent >= 0),
  last_event_id    uuid,
  lots_due_at      timestamptz not null default 'epoch',  -- before this nothing of theirs expires
  updated_at       timestamptz not null default internal.clock()
) with (fillfactor = 80);

-- Nothing hot writes the column, so a changed balance touches no index.
create index user_points_cache_lots_due on public.user_points_cache (lots_due_at);

create table public.used_nonces (
  user_id      uuid not null,
  nonce        text not null,
  event_type   text not null,
  payload_hash text not null,
  sealed       text,  -- what the first answer held that is nowhere else, encrypted by the function that gave it
  created_at   timestamptz not null default internal.clock(),
  expires_at   timestamptz not null default internal.clock() + interval '7 days',
  primary key (user_id, nonce)
);

create index used_nonces_to_expire on public.used_nonces (expires_at);
create index used_nonces_sealed on public.used_nonces (created_at) where sealed is not null;

-- What a client says happened, as the corridor hands it on: the arguments of submit_points_event.
create type internal.points_event_request as (
  user_id             uuid,
  event_type          text,
  event_time          timestamptz,
  nonce               text,
  related_entity_type text,
  related_entity_id   uuid,
  proof_payload       jsonb,
  attestation         jsonb,
  device_id           text,
  device_info         jsonb,
  ip_address          inet,
  request_id          text,
  proof_type          text
);

-- One change of somebody's points, caused by one event.
create type internal.points_move as (
  user_id      uuid,
  event_id     uuid,
  points       bigint,       -- signed: earned above zero, spent below
  pending      bigint,       -- signed: what this changes of the points that wait for validation
  kind         text,
  effective_at timestamptz
);

-- A walk through all users, after the terms of a program changed: where it has come to. No row: none is under way.
create table internal.points_expiry_walks (
  walk       int primary key default 1 check (walk = 1),
  done_until uuid not null default '00000000-0000-0000-0000-000000000000'
);

-- Whether a worker has nothing to do and wants to be woken. A submission wakes nobody who is awake: a notification
-- makes commits wait for one another.
create table internal.workers (
  worker text primary key,
  asleep boolean not null
);

-- Trust: how far an event is believed. Runs once.

-- What a finding is filed under.
create table internal.fraud_insight_types (
  insight_type text primary key
);

insert into internal.fraud_insight_types (insight_type) values
  ('velocity_anomaly'), ('impossible_location'), ('suspicious_pattern'), ('device_mismatch'), ('replay_attempt'),
  ('bulk_submission'), ('honeypot_triggered'), ('attestation_failure'), ('low_trust_score'), ('manual_flag');

-- Domains, because a backtest holds rules to them that are in no table. The rules' own table stays small.
-- squawk-ignore ban-create-domain-with-constraint
create domain internal.trust_mode as text check (value in ('off', 'shadow', 'enforce'));

-- From where to where a feature makes a rule hit: {"below": x}, {"at_least": x}, or both.
-- squawk-ignore ban-create-domain-with-constraint
create domain internal.trust_parameters as jsonb check (
  jsonb_typeof(value) = 'object' and value <> '{}' and value - array['below', 'at_least'] = '{}'
  and coalesce(jsonb_typeof(value -> 'below'), 'number') = 'number'
  and coalesce(jsonb_typeof(value -> 'at_least'), 'number') = 'number');

create table public.trust_policies (
  policy_id   text primary key,
  version     int not null default 1,                               -- grows with every update
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
  rule_id      text primary key check (rule_id ~ '^[a-z][a-z_]*$'),
  version      int  not null default 1,       -- grows with every update; what a rule found is noted with it
  feature      text not null check (feature in (
                 'seconds_to_nearest_event', 'events_in_hour', 'arrived_in_minute', 'timing_spread_seconds', 'repeated_proof',
                 'seconds_ahead', 'hours_late', 'account_age_days', 'device_accounts', 'device_is_known', 'entity_owned',
                 'open_insights', 'honeypot', 'attestation')),
  parameters   internal.trust_parameters not null,
  weight       int  not null,                 -- added to the score
  insight_type text not null default 'low_trust_score' references internal.fraud_insight_types,  -- what an event that it brings down is filed under
  severity     text check (severity in ('low', 'medium', 'high', 'critical')),  -- how grave that is; null: high when rejected, medium in review
  mode         internal.trust_mode not null default 'enforce',  -- in the shadow a rule is noted and does not count
  description  text not null,                 -- why
  updated_at   timestamptz not null default internal.clock()
);

insert into public.trust_rules (rule_id, feature, parameters, weight, insight_type, severity, mode, description) values
  ('spacing_under_ten_seconds', 'seconds_to_nearest_event', '{"below": 10}', -20, 'velocity_anomaly', null, 'enforce',
   'Nobody finishes two things within ten seconds. 70 - 20 = 50: a person looks.'),
  ('spacing_under_one_second', 'seconds_to_nearest_event', '{"below": 1}', -60, 'velocity_anomaly', null, 'enforce',
   'Less than a second apart is a program, whatever speaks for it. On top of the farther rule: 70 + 35 - 20 - 60 = 25 is rejected.'),
  ('sixty_events_in_an_hour', 'events_in_hour', '{"at_least": 60}', -15, 'velocity_anomaly', null, 'enforce',
   'One thing a minute, for an hour, is no human day. The rate limits stop a flood; this finds what stays below them.'),
  ('proof_sent_before', 'repeated_proof', '{"at_least": 1}', -20, 'suspicious_pattern', null, 'enforce',
   'Two events are not proven by the very same measurement.'),
  ('clock_ahead', 'seconds_ahead', '{"at_least": 120}', -15, 'suspicious_pattern', null, 'enforce',
   'Phones set their clocks from the network and are seconds off. Two minutes ahead is a clock that somebody set.'),
  ('device_of_three_accounts', 'device_accounts', '{"at_least": 3}', -15, 'device_mismatch', null, 'enforce',
   'A couple shares a tablet; three accounts on one device are worth a look.'),
  ('device_of_ten_accounts', 'device_accounts', '{"at_least": 10}', -30, 'device_mismatch', null, 'enforce',
   'Ten accounts on one device are a farm. On top of the rule for three: 70 - 15 - 30 = 25 is rejected.'),
  ('account_under_a_day', 'account_age_days', '{"below": 1}', -10, 'low_trust_score', null, 'enforce',
   'Throw-away accounts are new. By itself it changes nothing, 70 - 10 = 60 still counts: everybody was new once.'),
  ('account_over_a_week', 'account_age_days', '{"at_least": 7}', 5, 'low_trust_score', null, 'enforce',
   'Who stays a week is seldom a throw-away account.'),
  ('known_device', 'device_is_known', '{"at_least": 1}', 5, 'low_trust_score', null, 'enforce',
   'The user sent from this device before. A new device costs nothing: people buy telephones.'),
  ('entity_is_theirs', 'entity_owned', '{"at_least": 1}', 10, 'low_trust_score', null, 'enforce',
   'The habit, goal or workout it speaks of is the user''s own.'),
  ('entity_of_another', 'entity_owned', '{"below": 1}', -15, 'suspicious_pattern', null, 'enforce',
   'It speaks of something that is registered, and not to this user. Unregistered things say nothing.'),
  ('open_insights', 'open_insights', '{"at_least": 1}', -30, 'low_trust_score', null, 'enforce',
   'Something grave was found about this user within a day and nobody has looked yet: until then a person decides.'),
  ('device_attested', 'attestation', '{"at_least": 1}', 15, 'low_trust_score', null, 'enforce',
   'The platform vouches for the app, the device and this very request.'),
  ('attestation_missing', 'attestation', '{"at_least": 0, "below": 1}', -10, 'attestation_failure', null, 'shadow',
   'The app attests and this request is not attested. In the shadow until the last old version of the app is gone.'),
  ('attestation_failed', 'attestation', '{"below": 0}', -100, 'attestation_failure', 'high', 'enforce',
   'What could not be checked when it came was checked later, and is forged.'),
  ('bait_taken', 'honeypot', '{"at_least": 1}', -100, 'honeypot_triggered', 'critical', 'enforce',
   'No honest app sends this event type; whoever does has read what is not theirs and tries it out.'),
  ('identical_timing', 'timing_spread_seconds', '{"below": 1}', -15, 'suspicious_pattern', null, 'shadow',
   'Seven events in equal steps, to the second, come from a timer. In the shadow: an honest app may sync once a minute.'),
  ('bulk_arrival', 'arrived_in_minute', '{"at_least": 30}', -10, 'bulk_submission', null, 'shadow',
   'Thirty events within a minute are a script, or a telephone that was offline: in the shadow until it is known which.'),
  ('three_days_late', 'hours_late', '{"at_least": 72}', -5, 'suspicious_pattern', null, 'shadow',
   'What is said to have been days ago is hard to disprove. In the shadow: people travel without a network.');

create trigger trust_policies_are_audited
after insert or update or delete on public.trust_policies
for each row execute function internal.audit_change('policy_id');

create trigger trust_rules_are_audited
after insert or update or delete on public.trust_rules
for each row execute function internal.audit_change('rule_id');

-- Whom a person has decided about: a denied subject scores 0, an allowed one 100, a watched one goes to review.
create table public.trust_lists (
  list         text not null check (list in ('deny', 'watch', 'allow')),
  subject_type text not null check (subject_type in ('user', 'device', 'address')),
  subject      text not null check (subject <> ''),
  reason       text not null,
  expires_at   timestamptz,                       -- null: until it is taken off
  created_by   text not null default session_user,
  created_at   timestamptz not null default internal.clock(),
  primary key (subject_type, subject, list),
  constraint a_subject_is_written_as_events_have_it check (case subject_type
    when 'user' then subject = subject::uuid::text
    -- An address, or a network of a length that is looked up.
    when 'address' then subject = case
      when masklen(subject::inet) = case family(subject::inet) when 4 then 32 else 128 end then host(subject::inet)
      when masklen(subject::inet) = any (case family(subject::inet) when 4 then '{8,16,24}'::int[] else '{32,48,56,64}' end)
      then network(subject::inet)::text else '' end
    else true end)
);

create trigger trust_lists_are_audited
after insert or update or delete on public.trust_lists
for each row execute function internal.audit_change('subject');

-- Which user has sent from which device, since when.
create table public.device_users (
  device_id     text not null,
  user_id       uuid not null,
  first_seen_at timestamptz not null,
  primary key (device_id, user_id)
);

create index device_users_of_user on public.device_users (user_id, first_seen_at);

-- Whose the things are that events speak of, as far as the app tells. What nobody registered says nothing.
create table public.entity_owners (
  entity_type text not null,
  entity_id   uuid not null,
  user_id     uuid not null,
  primary key (entity_type, entity_id, user_id)
);

-- What a judged event was judged by: one row an event, and all that a backtest needs.
create table public.trust_assessments (
  user_id        uuid  not null,
  event_id       uuid  not null,
  policy_id      text  not null,
  policy_version int   not null,
  trust_score    int   not null check (trust_score between 0 and 100),
  verdict        text  not null check (verdict in ('validated', 'pending_review', 'rejected')),
  features       jsonb not null,  -- what was known of it; what is not there was not known
  hits           jsonb not null,  -- the rules that hit, with what they saw and where their threshold was
  assessed_at    timestamptz not null default internal.clock(),
  primary key (event_id, user_id)  -- ids are ordered by time: one index that grows at its end and finds an event without its user
);

create index trust_assessments_by_time on public.trust_assessments using brin (assessed_at);

create table public.fraud_insights (
  insight_id        uuid primary key default internal.uuidv7(),
  user_id           uuid not null,
  insight_type      text not null references internal.fraud_insight_types,
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

-- What a person decided about an event that waited for one.
create table public.points_reviews (
  event_id    uuid primary key,  -- nobody decides twice
  user_id     uuid not null,
  decision    text not null check (decision in ('approved', 'rejected')),
  reason      text not null check (reason ~ '\S'),
  label       text check (label in ('confirmed_fraud', 'false_positive')),
  reviewed_by text not null,
  reviewer_id uuid,              -- null: by a program or the command line
  reviewed_at timestamptz not null default internal.clock(),
  request_id  text
);

create trigger points_reviews_are_append_only
before update or delete or truncate on public.points_reviews
for each statement execute function internal.append_only();

-- What people noted about an event. The newest label is the one that counts.
create table public.points_review_notes (
  note_id    uuid primary key default internal.uuidv7(),
  event_id   uuid not null,
  user_id    uuid not null,
  note       text check (note ~ '\S'),
  label      text check (label in ('confirmed_fraud', 'false_positive')),
  author     text not null,
  created_at timestamptz not null default internal.clock(),
  constraint a_note_says_something check (note is not null or label is not null)
);

create index points_review_notes_of_event on public.points_review_notes (event_id, note_id desc);

create trigger points_review_notes_are_append_only
before update or delete or truncate on public.points_review_notes
for each statement execute function internal.append_only();

-- What is known of an event when it is judged.
create type internal.points_assessed as (
  user_id  uuid,
  event_id uuid,
  features jsonb
);

-- What the rules say of it, and what follows from it.
create type internal.points_judged as (
  user_id      uuid,
  event_id     uuid,
  features     jsonb,
  trust_score  int,
  verdict      text,   -- 'validated' | 'pending_review' | 'rejected'
  insight_type text,   -- what it is filed under when it is not validated
  severity     text,
  hits         jsonb   -- the rules that hit, with what they saw and where their threshold was
);

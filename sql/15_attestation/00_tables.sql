-- Device attestation: what devices were asked, which keys they have, what is known of their tokens. Runs once.

-- A question that a device answers once. Only its hash is kept, so that nobody who reads this table can answer.
create table public.attestation_challenges (
  user_id        uuid not null,
  challenge_hash text not null check (challenge_hash ~ '^[0-9a-f]{64}$'),
  challenge_id   uuid not null default internal.uuidv7(),
  purpose        text not null check (purpose in ('register', 'submit')),
  platform       text not null check (platform in ('android', 'ios')),
  request_hash   text check (request_hash ~ '^[0-9a-f]{64}$'),  -- the request that it was the answer of; null until then
  created_at     timestamptz not null default internal.clock(),
  expires_at     timestamptz not null default internal.clock() + interval '5 minutes',
  primary key (user_id, challenge_hash)
);

create index attestation_challenges_to_expire on public.attestation_challenges (expires_at);

-- A key that lives in a device's secure hardware, as App Attest vouched for it. It is the device's and not the user's:
-- whoever signs in there may sign with it, and device_key_users says who did.
create table public.device_keys (
  key_id              text primary key check (key_id ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'),  -- the public key's SHA-256
  public_key          text not null check (public_key ~ '^[A-Za-z0-9+/]{87}=$'),          -- the point on P-256, uncompressed
  user_id             uuid not null,                                                      -- who registered it
  app_id              text not null,
  environment         text not null check (environment in ('production', 'development')),
  validation_category bigint,                                                             -- how the app came to the device
  receipt             text not null,                                                      -- Apple's, which is bound to nothing
  challenge_hash      text not null,                                                      -- what it was registered with
  sign_count          bigint not null default 0 check (sign_count between 0 and 4294967295),
  request_hash        text,                                                               -- the request that was counted last
  registered_at       timestamptz not null default internal.clock(),
  last_used_at        timestamptz,
  revoked_at          timestamptz,                                                        -- an operator's word: it counts no more
  request_id          text
);

create table public.device_key_users (
  key_id        text not null,
  user_id       uuid not null,
  first_seen_at timestamptz not null default internal.clock(),
  primary key (key_id, user_id)
);

-- What Google said of a token, by the token's hash: nothing is decoded twice, because a second look spoils what it says.
create table public.attestation_cache (
  attestation_token_hash text primary key check (attestation_token_hash ~ '^[0-9a-f]{64}$'),
  platform               text not null check (platform in ('android', 'ios', 'web')),
  is_valid               boolean,      -- null while somebody is asking, and when asking failed
  integrity_verdict      jsonb,        -- as it came
  claimed_until          timestamptz,  -- who asks has until then
  created_at             timestamptz not null default internal.clock(),
  expires_at             timestamptz not null default internal.clock() + interval '1 hour'
);

create index attestation_cache_to_expire on public.attestation_cache (expires_at);

-- How many tokens were decoded on a day, of as many as Google allows.
create table public.attestation_decodes (
  day     date primary key,
  decodes int  not null check (decodes >= 0)
);

-- What could not be checked when it came and is checked again. The token goes as soon as there is an answer.
create table public.attestation_rechecks (
  user_id      uuid not null,
  event_id     uuid not null,
  token        text not null,
  request_hash text not null check (request_hash ~ '^[0-9a-f]{64}$'),
  tries        int  not null default 0,
  received_at  timestamptz not null default internal.clock(),
  due_at       timestamptz not null default internal.clock() + interval '10 seconds',
  primary key (user_id, event_id)
);

create index attestation_rechecks_due on public.attestation_rechecks (due_at);

-- What was refused, once an hour and reason for a user, however often it came.
create table public.attestation_failures (
  user_id    uuid not null,
  hour       timestamptz not null,
  reason     text not null check (reason ~ '^[a-z][a-z0-9_]*$'),
  purpose    text not null check (purpose in ('register', 'submit')),
  platform   text not null check (platform in ('android', 'ios')),
  key_id     text,
  event_id   uuid,  -- what was accepted first and checked again later
  failures   int not null default 1,
  detail     text,
  request_id text,
  failed_at  timestamptz not null default internal.clock(),
  primary key (user_id, hour, reason)
);

create index attestation_failures_to_forget on public.attestation_failures (hour);

-- What the functions found out about one request's device. Only a verified one has the members behind its reason.
create type internal.attestation_evidence as (
  status         text,   -- 'verified' | 'failed' | 'missing' | 'unsupported' | 'unavailable' | 'not_configured'
  reason         text,   -- why it is no better
  detail         text,
  platform       text,
  challenge_hash text,
  request_hash   text,   -- what the device signed: clientDataHash, requestHash
  key_id         text,
  sign_count     bigint,
  token          text    -- only while it is 'unavailable'
);

-- A request's evidence, and where its answer goes.
create type internal.attestation_claim as (
  "position" int,
  user_id    uuid,
  purpose    text,
  request_id text,
  evidence   internal.attestation_evidence
);

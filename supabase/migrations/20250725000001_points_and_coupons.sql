-- Tallybook: points and coupons.
-- Built by `tallybook migrate build` from sql/ and policies/; change it there.

-- sql/00_foundation/00_supabase.sql

-- What a plain Postgres lacks and Supabase has: its roles, its auth schema, its claims helpers.
-- Runs once. On Supabase every test below finds its object and nothing is changed.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
  end loop;

  if not exists (select from pg_catalog.pg_roles r where r.rolname = 'authenticator') then
    create role authenticator nologin noinherit;
    grant anon, authenticated, service_role to authenticator;
  end if;

  if to_regnamespace('auth') is null then
    create schema auth;
    grant usage on schema auth to anon, authenticated, service_role;
  end if;

  if to_regnamespace('extensions') is null then
    create schema extensions;
    grant usage on schema extensions to anon, authenticated, service_role;
  end if;

  if to_regclass('auth.users') is null then
    create table auth.users (
      id         uuid primary key default gen_random_uuid(),
      email      text,
      created_at timestamptz not null default now()
    );
  end if;

  if to_regprocedure('auth.jwt()') is null then
    create function auth.jwt() returns jsonb language sql stable set search_path = '' as
      $f$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $f$;
  end if;

  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid language sql stable set search_path = '' as
      $f$ select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), auth.jwt() ->> 'sub')::uuid $f$;
  end if;

  if to_regprocedure('auth.role()') is null then
    create function auth.role() returns text language sql stable set search_path = '' as
      $f$ select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), auth.jwt() ->> 'role') $f$;
  end if;
end
$$;

-- sql/00_foundation/01_roles.sql

-- Our own roles and schemas. Runs once.
-- Roles belong to the server, not to the database: another database of the same server may have made them.

do $$
declare
  v_role text;
  v_setting text;
  v_value text;
begin
  foreach v_role in array array[
    'tallybook_procedures',  -- owns the request procedures; sees the rows of the call's subjects, nothing else
    'tallybook_upkeep',      -- owns the batch and upkeep procedures
    'tallybook_functions',   -- what the functions log in as
    'tallybook_worker',      -- what the worker logs in as
    'tallybook_operator'     -- what the command line and the people with an SQL editor act as
  ] loop
    if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
      execute format('create role %I nologin', v_role);
    end if;
  end loop;

  -- Nobody's transaction holds others up for long. What an administrator has set already stays.
  for v_role, v_setting, v_value in
    values ('tallybook_functions', 'statement_timeout', '5s'),
           ('tallybook_functions', 'lock_timeout', '3s'),
           ('tallybook_functions', 'idle_in_transaction_session_timeout', '10s'),
           ('tallybook_worker', 'statement_timeout', '60s'),
           ('tallybook_worker', 'lock_timeout', '5s'),
           ('tallybook_worker', 'idle_in_transaction_session_timeout', '60s')
  loop
    if not exists (
      select from pg_catalog.pg_roles as r, unnest(r.rolconfig) as c(setting)
       where r.rolname = v_role and c.setting like v_setting || '=%') then
      execute format('alter role %I set %I = %L', v_role, v_setting, v_value);
    end if;
  end loop;

  -- Whoever migrates hands procedures to their owners, which takes membership, and is an operator.
  -- From PostgreSQL 16 on only who made a role may grant it: a second migrator of a server needs that grant first.
  foreach v_role in array array['tallybook_procedures', 'tallybook_upkeep', 'tallybook_operator'] loop
    if not pg_catalog.pg_has_role(current_user, v_role, 'usage') then
      execute format('grant %I to current_user', v_role);
    end if;
  end loop;
end
$$;

create schema ledger;
create schema internal;

comment on schema ledger is 'The one book: accounts, transfers, holds. No API exposes it.';
comment on schema internal is 'Helpers and set-based cores of the procedures. No API exposes it.';

-- sql/00_foundation/02_tables.sql

-- The foundation's tables and types. Runs once.

create table internal.refusals (
  code   text primary key check (code ~ '^[a-z][a-z_]*$'),
  status int  not null check (status between 400 and 599),
  title  text not null,
  hint   text
);

comment on table internal.refusals is
  'The one catalogue of everything Tallybook refuses: the code a client sees, its HTTP status, and what to do about it.';

-- What every set-based core returns for each request, in the request's place: an answer, or a refusal.
create type internal.outcome as (
  position int,    -- 1 is the first request of the batch
  answer   jsonb,  -- null when refused
  refusal  jsonb   -- {code, status, detail, hint}; null when answered
);

-- sql/00_foundation/act_for.sql

-- Says for whom this transaction's procedure acts; row-level security then hides everybody else's rows from it.
-- A batch holds one request a book: no row is updated twice in one statement, and each sees what came before.

create or replace function internal.act_for(p_user_ids uuid[])
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if array_position(p_user_ids, null) is not null or cardinality(p_user_ids) = 0 then
    raise exception 'a call acts for at least one user, each of them named';
  end if;
  if cardinality(p_user_ids) > 1 then
    if cardinality(p_user_ids) > (select count(distinct u.user_id) from unnest(p_user_ids) as u(user_id)) then
      raise exception 'a batch holds at most one request per book';
    end if;
  end if;
  -- A condition, because a statement for it would cost ten times as much.
  if set_config('tallybook.subjects', p_user_ids::text, true) is null then
    raise exception 'it is not known for whom the call acts';
  end if;
end
$$;

-- sql/00_foundation/append_only.sql

-- Refuses to change or remove what a table only ever gains. Grants refuse it to everybody else; this refuses it to
-- the table's owner as well.

create or replace function internal.append_only()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = '42501',
    message = format('%I.%I is append-only', tg_table_schema, tg_table_name),
    hint    = 'Correct it with an opposite entry.';
end
$$;

-- sql/00_foundation/caller_id.sql

-- Who is asking, when a client reads through PostgREST or an operator imitates one: the token's subject.
-- Three spellings are understood: PostgREST's JSON claims, its legacy one-setting-a-claim form, and
-- `set local request.jwt.claims.sub = '…'`. A custom setting is '' and not null after its transaction.
-- A subject that is no UUID is nobody.

create or replace function internal.caller_id()
returns uuid
language plpgsql stable
set search_path = ''
as $$
declare
  v_subject text := coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub',
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims.sub', true), ''));
begin
  return case when v_subject ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then v_subject::uuid end;
end
$$;

-- sql/00_foundation/clock.sql

-- The time that decides. A test freezes it by replacing this function in its own database.
-- It is the transaction's time, so everything one call writes carries one instant.
-- This and the other small helpers are plpgsql: a SQL function with a pinned search path cannot be inlined and is, before
-- PostgreSQL 18, planned anew by every query that calls it, which is dearer than all it does.

create or replace function internal.clock()
returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  return now();
end
$$;

-- sql/00_foundation/refusal.sql

-- A refusal as data: the catalogue's entry with what it was about. Set-based cores return it for one request
-- of many; internal.refuse raises it.

create or replace function internal.refusal(p_code text, p_detail text default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_refusal jsonb;
begin
  select jsonb_build_object('code', r.code, 'status', r.status, 'detail', coalesce(p_detail, r.title), 'hint', r.hint)
    into v_refusal
    from internal.refusals as r
   where r.code = p_code;
  if v_refusal is null then
    raise exception 'the refusal % is not in the catalogue', p_code;
  end if;
  return v_refusal;
end
$$;

-- sql/00_foundation/refusals.sql

-- The catalogue's entries. Applied again and again: this list is what the table holds.

with entry (code, status, title, hint) as (
  values
    -- the corridor, before any procedure is called
    ('invalid_body',          400, 'The request body is not valid', 'Correct the value at the given path.'),
    ('body_too_large',        413, 'The request body is too large', 'Send less at once.'),
    ('unauthorized',          401, 'A valid access token is required', 'Sign in and send the access token as a bearer token.'),
    ('forbidden',             403, 'The caller may not do this', null),
    ('not_found',             404, 'There is nothing at this address', null),
    ('method_not_allowed',    405, 'This method is not allowed here', null),
    ('unavailable',           503, 'The service cannot answer right now', 'Try again after the time given in Retry-After.'),
    ('internal_error',        500, 'Something went wrong on our side', 'Report the request id.'),
    ('rate_limited',          429, 'There were too many requests', 'Try again after the time given in Retry-After.'),
    ('reason_required',       400, 'This must be given a reason', 'Say why: it is kept in the audit log.'),
    -- device attestation
    ('attestation_failed',    403, 'The device''s attestation is not valid', 'Ask for a new challenge and attest the request again.'),
    ('device_key_taken',      409, 'This device key was registered already', 'Make a new key on the device.'),
    -- the ledger
    ('insufficient_funds',    400, 'The account does not hold enough', null),
    ('invalid_amount',        400, 'The amount must be greater than zero', null),
    ('hold_not_found',        404, 'There is no such hold', null),
    ('hold_reused',           409, 'This hold was made with another amount or account', 'Make a new id for every new hold.'),
    ('hold_closed',           409, 'The hold was already settled, released or expired', null),
    ('hold_exceeded',         400, 'More cannot be settled than was held', null),
    -- points
    ('nonce_reused',          409, 'This nonce was used for another request', 'Make a new nonce for every new request.'),
    ('unknown_event_type',    400, 'There is no such event type', 'See the points rules for the event types there are.'),
    ('event_type_not_submittable', 403, 'Only the server records events of this type', null),
    ('event_in_future',       400, 'The event lies in the future', 'Check the clock of the device.'),
    ('event_too_old',         400, 'The event lies too far back', null),
    ('event_not_found',       404, 'There is no such event', null),
    ('event_frozen',          409, 'A validated event does not change', 'Correct it with an opposite event.'),
    ('invalid_transition',    409, 'An event does not go from this status to that one', null),
    ('proof_type_not_accepted', 400, 'This kind of proof does not count for this event', 'See the points rules for what is accepted.'),
    ('invalid_points',        400, 'These are no points to award', null),
    -- review
    ('own_event',             403, 'Nobody decides what is their own', 'Ask another administrator.'),
    ('already_reviewed',      409, 'Somebody else has decided this already', null),
    ('not_reviewable',        409, 'This does not wait for a review', null),
    ('insight_not_found',     404, 'There is no such insight', null),
    ('already_resolved',      409, 'Somebody else has resolved this already', null),
    -- coupons
    ('template_not_found',    404, 'There is no such coupon on offer', null),
    ('coupon_limit_reached',  403, 'This user has redeemed this coupon as often as allowed', null),
    ('template_exhausted',    409, 'There are none of this coupon left', null),
    ('coupon_not_valid',      404, 'This code is not valid', 'Check the code for a typing error.'),
    ('coupon_not_found',      404, 'There is no such coupon', null),
    ('coupon_used',           409, 'This coupon was used already', null),
    ('coupon_revoked',        409, 'This coupon was revoked', null),
    ('coupon_held',           409, 'This coupon is held for another purchase', 'Try again later.'),
    ('coupon_not_held',       409, 'This coupon is not held under this key', null),
    ('coupon_refunded',       409, 'The points of this coupon were given back already', null),
    ('insufficient_points',   400, 'There are not enough points for this coupon', 'Earn more points and try again.'),
    -- tenants
    ('tenant_not_found',      404, 'Tenant not found', null),
    ('insufficient_pool',     400, 'The company allocation pool does not hold enough', 'Ask a platform administrator to allocate more.'),
    ('insufficient_budget',   400, 'The budget does not hold enough', null),
    ('insufficient_wallet',   400, 'The wallet does not hold enough', null),
    ('self_recognition',      400, 'Nobody recognizes themselves', null),
    ('recipient_not_found',   404, 'There is no such member of this tenant', null),
    ('recognition_not_found', 404, 'There is no such recognition', null),
    ('department_cap_reached', 400, 'The department has given what it may this month', null),
    ('peer_to_peer_off',      403, 'Members do not give points to one another here', null),
    ('redemptions_paused',    409, 'Redemptions are paused', null),
    ('reward_not_found',      404, 'There is no such reward', null),
    ('reward_out_of_stock',   409, 'There are none of this reward left', null),
    ('allocation_not_found',  404, 'There is no such allocation', null),
    ('department_not_found',  404, 'There is no such department', null),
    ('redemption_not_found',  404, 'There is no such redemption', null),
    ('not_reversible',        409, 'This cannot be taken back any more', null),
    -- credits
    ('insufficient_credits',  402, 'There are not enough credits', 'Buy credits and try again.'),
    ('monthly_cap_reached',   429, 'This would exceed the monthly cap', 'Raise the cap, or wait for the next month.'),
    ('price_unknown',         400, 'No price is known for this model', 'Name a model or a provider that has a price.'),
    ('unknown_tier',          400, 'There is no such tier', null),
    ('prices_in_force',       409, 'Prices in force do not change', 'Publish new ones.'),
    ('user_not_found',        404, 'There is no such user', null),
    ('transaction_not_found', 404, 'There is no such transaction', null),
    ('not_refundable',        409, 'Only usage is refunded', null),
    ('refund_exceeded',       400, 'More cannot be refunded than was charged', null),
    ('reservation_not_found', 404, 'There is no such reservation', null),
    ('reservation_closed',    409, 'The reservation was already settled, released or expired', null),
    ('package_not_found',     404, 'There is no such package', null),
    ('payment_mismatch',      409, 'Less was paid than is due', 'Compare the payment with amount_due.'),
    ('promotion_exists',      409, 'There is another promotion under this code', 'Choose another code.'),
    ('promotion_not_found',   404, 'There is no such promotion', null),
    ('account_not_found',     404, 'No such account is connected', 'Connect it first.'),
    ('provider_key_rejected', 400, 'The provider does not accept this key', 'Make a new key at the provider and connect it.'),
    ('credits_owed',          409, 'The account owes credits', 'Pay what is owed first.')
), kept as (
  insert into internal.refusals as r (code, status, title, hint)
  select e.code, e.status, e.title, e.hint from entry as e
  on conflict (code) do update
     set status = excluded.status, title = excluded.title, hint = excluded.hint
)
delete from internal.refusals as r
 where not exists (select from entry as e where e.code = r.code);

-- sql/00_foundation/refuse.sql

-- Raises a refusal: SQLSTATE PTxyz, which PostgREST and the Python library both answer with HTTP status xyz,
-- the code as the message, the hint from the catalogue. The one place where a procedure says no.
-- A detail about one argument begins with it and a colon ('event_time: …'): Python makes that the path of the fault.

create or replace function internal.refuse(p_code text, p_detail text default null)
returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_refusal jsonb := internal.refusal(p_code, p_detail);
begin
  raise exception using
    errcode = 'PT' || (v_refusal ->> 'status'),
    message = p_code,
    detail  = v_refusal ->> 'detail',
    hint    = coalesce(v_refusal ->> 'hint', '');
end
$$;

-- sql/00_foundation/single.sql

-- Turns the outcome of a core that was given one request into what a single procedure does: answer, or raise.

create or replace function internal.single(p_outcome internal.outcome)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  if p_outcome.refusal is not null then
    perform internal.refuse(p_outcome.refusal ->> 'code', p_outcome.refusal ->> 'detail');
  end if;
  return p_outcome.answer;
end
$$;

-- sql/00_foundation/subjects.sql

-- Whose rows the running procedure may touch: the users of this call, set by internal.act_for, nobody before that.
-- Policies write it as (select internal.subjects())::uuid[], which is evaluated once a statement and not once a row.

create or replace function internal.subjects()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
begin
  return nullif(current_setting('tallybook.subjects', true), '')::uuid[];
end
$$;

-- sql/00_foundation/uuidv7.sql

-- A time-ordered UUID (RFC 9562, version 7), as PostgreSQL 18 has one and 15 to 17 do not.
-- 48 bits of milliseconds, 12 of the fraction of that millisecond, 62 random: ids made one after the other sort so.

create or replace function internal.uuidv7()
returns uuid
language plpgsql volatile
set search_path = ''
as $$
declare
  v_time bigint := date_part('epoch', clock_timestamp()) * 4096000;  -- in 4096ths of a millisecond
begin
  return encode(
    int8send((v_time >> 12 << 16) | x'7000'::bigint | (v_time & 4095)) || substring(uuid_send(gen_random_uuid()) from 9),
    'hex')::uuid;
end
$$;

-- sql/00_foundation/uuidv7_floor.sql

-- The smallest id that internal.uuidv7 can have made at a moment: from here on, a range of ids is a range of time.
-- Ids go by the server's real clock, so p_at does as well; what else must hold of the rows is for the query to say.

create or replace function internal.uuidv7_floor(p_at timestamptz)
returns uuid
language plpgsql immutable
set search_path = ''
as $$
begin
  return encode(
    substring(int8send((date_part('epoch', p_at) * 1000)::bigint) from 3) || '\x70008000000000000000'::bytea, 'hex')::uuid;
end
$$;

-- sql/00_foundation/uuidv7s.sql

-- So many time-ordered UUIDs at once, each greater than the one before: internal.uuidv7 for a set. They count on from now and from
-- one random number, as RFC 9562 (6.2, method 2) has it for ids of one instant: they are unique, and they are no secrets.

create or replace function internal.uuidv7s(p_count int)
returns uuid[]
language plpgsql volatile
set search_path = ''
as $$
declare
  v_time bigint := date_part('epoch', clock_timestamp()) * 4096000;  -- in 4096ths of a millisecond
  -- 61 random bits behind the variant's two and one that leaves room to count.
  v_random bigint := (hashtextextended(gen_random_uuid()::text, 0) & x'1fffffffffffffff'::bigint) | x'8000000000000000'::bigint;
begin
  return array(
    select encode(int8send(((v_time + n) >> 12 << 16) | x'7000'::bigint | ((v_time + n) & 4095)) || int8send(v_random + n), 'hex')::uuid
      from generate_series(1, p_count) as n);
end
$$;

-- sql/05_administration/00_tables.sql

-- Administration: who administers the whole, and what was done. Runs once.

-- The administrators, by the id of their token. A row here is the only thing that makes an administrator.
create table public.system_admins (
  id         uuid primary key,
  email      text,
  is_active  boolean not null default true,
  created_at timestamptz not null default internal.clock()
);

-- Who did what to whom, why, and what it was before and after. Only ever gains rows.
create table public.audit_log (
  audit_id     uuid primary key default internal.uuidv7(),
  recorded_at  timestamptz not null default internal.clock(),
  actor        text not null,
  action       text not null check (action ~ '^[a-z][a-z_.]*$'),
  subject_type text not null,
  subject_id   text not null,
  reason       text,
  before       jsonb,
  after        jsonb,
  request_id   text
);

create trigger audit_log_is_append_only
before update or delete or truncate on public.audit_log
for each statement execute function internal.append_only();

create index audit_log_of_subject on public.audit_log (subject_type, subject_id, recorded_at desc);

-- sql/05_administration/actor.sql

-- Who an administrator's procedure acts for: the e-mail of the caller's token when that is an active administrator, or
-- for a program and a command line, which bring no user, whom they name, else the session's own role.
--
-- Refuses: forbidden, when the user is no administrator.

create or replace function internal.actor(p_user_id uuid, p_actor text default null)
returns text
language plpgsql stable
set search_path = ''
as $$
declare
  v_actor text;
begin
  if p_user_id is null then
    return coalesce(nullif(p_actor, ''), nullif(current_setting('tallybook.actor', true), ''), session_user);
  end if;
  select coalesce(a.email, a.id::text) into v_actor from public.system_admins as a where a.id = p_user_id and a.is_active;
  if v_actor is null then
    perform internal.refuse('forbidden', 'This is open to administrators only.');
  end if;
  return v_actor;
end
$$;

-- sql/05_administration/audit.sql

-- Writes down what an administrator did.

create or replace function internal.audit(
  p_actor        text,
  p_action       text,
  p_subject_type text,
  p_subject_id   text,
  p_reason       text default null,
  p_before       jsonb default null,
  p_after        jsonb default null,
  p_request_id   text default null
)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into public.audit_log (actor, action, subject_type, subject_id, reason, before, after, request_id)
  values (p_actor, p_action, p_subject_type, p_subject_id, p_reason, p_before, p_after, p_request_id);
end
$$;

-- sql/05_administration/audit_change.sql

-- Writes down every change of a table of settings, whoever makes it and by whatever way. The trigger's argument names the
-- column that says which row it is. Who, why and by which request come from `set local tallybook.actor`, `tallybook.reason`
-- and `tallybook.request_id`, else from the session.

create or replace function internal.audit_change()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  perform internal.audit(
    coalesce(nullif(current_setting('tallybook.actor', true), ''), session_user), 'settings.' || lower(tg_op), tg_table_name,
    coalesce(v_after, v_before) ->> tg_argv[0], nullif(current_setting('tallybook.reason', true), ''), v_before, v_after,
    nullif(current_setting('tallybook.request_id', true), ''));
  return null;
end
$$;

create or replace trigger system_admins_are_audited
after insert or update or delete on public.system_admins
for each row execute function internal.audit_change('id');

-- sql/10_ledger/00_tables.sql

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

-- sql/10_ledger/account_discrepancies.sql

-- Where the accounts and the transfers disagree: the ledger's own part of ledger.discrepancies.

create or replace view ledger.account_discrepancies
with (security_invoker = true)
as
with entry as (
  select t.book_id, t.to_account as account, t.asset, t.amount from ledger.transfers as t
  union all
  select t.book_id, t.from_account, t.asset, -t.amount from ledger.transfers as t
), total as (
  select e.book_id, e.account, min(e.asset) as asset, sum(e.amount) as amount from entry as e group by e.book_id, e.account
), kept as (
  select t.* from total as t join ledger.chart_of_accounts as c on c.account = split_part(t.account, ':', 1) and c.floor is not null
), held as (
  select h.book_id, h.account, sum(h.amount) as amount from ledger.holds as h where h.status = 'held' group by h.book_id, h.account
)
select 'I3' as invariant, coalesce(a.book_id, k.book_id) as book_id, 'balance of ' || coalesce(a.account, k.account) as subject,
       coalesce(k.amount, 0)::text as expected, coalesce(a.balance, 0)::text as actual
  from ledger.accounts as a
  full join kept as k on k.book_id = a.book_id and k.account = a.account
 where coalesce(a.balance, 0) <> coalesce(k.amount, 0)
union all
select 'I3', coalesce(a.book_id, h.book_id), 'held in ' || coalesce(a.account, h.account),
       coalesce(h.amount, 0)::text, coalesce(a.held, 0)::text
  from ledger.accounts as a
  full join held as h on h.book_id = a.book_id and h.account = a.account
 where coalesce(a.held, 0) <> coalesce(h.amount, 0)
union all
select 'I4', a.book_id, 'available in ' || a.account, 'at least ' || a.floor, (a.balance - a.held)::text
  from ledger.accounts as a
 where a.balance - a.held < a.floor
union all
select 'I5', t.book_id, 'transfer ' || t.transfer_id, 'two accounts of one asset',
       format('%s %s -> %s %s', t.from_account, f.asset, t.to_account, o.asset)
  from ledger.transfers as t
  left join ledger.chart_of_accounts as f on f.account = split_part(t.from_account, ':', 1)
  left join ledger.chart_of_accounts as o on o.account = split_part(t.to_account, ':', 1)
 where t.asset is distinct from f.asset or t.asset is distinct from o.asset
union all
-- The accounts that keep a balance, as they stand, and the counterparties, as the transfers tell: together nothing.
select 'I5', null, 'sum of all ' || s.asset, '0', sum(s.amount)::text
  from (
    select a.asset, a.balance as amount from ledger.accounts as a
    union all
    select t.asset, t.amount
      from total as t
      join ledger.chart_of_accounts as c on c.account = split_part(t.account, ':', 1) and c.floor is null
  ) as s
 group by s.asset
having sum(s.amount) <> 0;

-- sql/10_ledger/balance_as_of.sql

-- What an account held at a moment: transfers effective by then, as far as the book knew by p_known_at.
-- The two times answer two questions: what was true then, and what did we believe then.

create or replace function ledger.balance_as_of(
  p_book_id  uuid,
  p_account  text,
  p_as_of    timestamptz,
  p_known_at timestamptz default 'infinity'
)
returns bigint
language sql stable
set search_path = ''
as $$
  select coalesce(sum(case when t.to_account = p_account then t.amount else -t.amount end), 0)::bigint
    from ledger.transfers as t
   where t.book_id = p_book_id
     and p_account in (t.from_account, t.to_account)
     and t.effective_at <= p_as_of
     and t.recorded_at <= p_known_at
$$;

-- sql/10_ledger/close_hold.sql

-- Ends a hold, whichever way: takes the row, frees what it set aside. Settling, releasing and expiring all come here,
-- so that of two that race exactly one finds the hold open.
--
-- Replay:  none by itself; the second to come is refused.
-- Locks:   the account, then the hold.
-- Refuses: hold_not_found, hold_closed.

create or replace function ledger.close_hold(p_book_id uuid, p_hold_id uuid, p_status text, p_settled bigint default 0)
returns ledger.holds
language plpgsql volatile
set search_path = ''
as $$
declare
  v_hold ledger.holds;
begin
  select h.* into v_hold from ledger.holds as h where h.book_id = p_book_id and h.hold_id = p_hold_id;
  if not found then
    perform internal.refuse('hold_not_found', format('hold %s', p_hold_id));
  end if;
  perform ledger.lock(array[p_book_id], v_hold.account);

  update ledger.holds as h
     set status = p_status, settled = p_settled, closed_at = internal.clock()
   where h.book_id = p_book_id and h.hold_id = p_hold_id and h.status = 'held'
  returning h.* into v_hold;
  if not found then
    perform internal.refuse('hold_closed', format('hold %s', p_hold_id));
  end if;

  update ledger.accounts as a
     set held = a.held - v_hold.amount, updated_at = internal.clock()
   where a.book_id = p_book_id and a.account = v_hold.account;
  return v_hold;
end
$$;

-- sql/10_ledger/close_holds.sql

-- Ends many holds the same way at once, at most one a book, for whoever has locked the accounts and seen that all of them are
-- open: ledger.close_hold without the questions. Of each hold it takes the book, the id, and how much of it is settled.
--
-- Replay:  none by itself: a hold that is not open is an error.
-- Locks:   the holds; the caller holds the accounts' (ledger.lock).
-- Refuses: nothing.

create or replace function ledger.close_holds(p_holds ledger.holds[], p_status text)
returns int
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_freed int;
begin
  -- Not by the status, after which the planner would walk through everybody's open holds.
  with closed as (
    update ledger.holds as h
       set status = p_status, settled = coalesce(c.settled, 0), closed_at = v_now
      from unnest(p_holds) as c
     where h.book_id = c.book_id and h.hold_id = c.hold_id and h.closed_at is null
    returning h.book_id, h.account, h.amount
  ), freed as (
    update ledger.accounts as a
       set held = a.held - c.amount, updated_at = v_now
      from closed as c
     where a.book_id = c.book_id and a.account = c.account
    returning a.book_id
  )
  select count(*) into v_freed from freed;
  if v_freed <> cardinality(p_holds) then
    raise exception '% of % holds were open', v_freed, cardinality(p_holds);
  end if;
  return v_freed;
end
$$;

-- sql/10_ledger/expire_holds.sql

-- Gives back the holds whose time is up, oldest first, at most p_limit of them; returns how many.
-- Two workers share the work: each locks only accounts that the other has not.
--
-- Replay:  an expired hold is not open any more; a second run finds others or none.
-- Locks:   the accounts, in the order of (book_id, account), skipping those that are taken; then the holds.

create or replace function ledger.expire_holds(p_limit int default 1000)
returns int
language plpgsql volatile
set search_path = ''
as $$
declare
  v_expired int;
begin
  with due as (
    select h.book_id, h.hold_id, h.account
      from ledger.holds as h
     where h.status = 'held' and h.expires_at <= internal.clock()
     order by h.expires_at
     limit p_limit
  ), locked as materialized (
    select a.book_id, a.account
      from ledger.accounts as a
     where (a.book_id, a.account) in (select d.book_id, d.account from due as d)
     order by a.book_id, a.account
       for update skip locked
  ), expired as (
    update ledger.holds as h
       set status = 'expired', closed_at = internal.clock()
      from due as d
      join locked as l on l.book_id = d.book_id and l.account = d.account
     where h.book_id = d.book_id and h.hold_id = d.hold_id and h.status = 'held'
    returning h.book_id, h.account, h.amount
  ), freed as (
    update ledger.accounts as a
       set held = a.held - e.amount, updated_at = internal.clock()
      from (select x.book_id, x.account, sum(x.amount) as amount from expired as x group by x.book_id, x.account) as e
     where a.book_id = e.book_id and a.account = e.account
  )
  select count(*) into v_expired from expired;
  return v_expired;
end
$$;

-- sql/10_ledger/expire_holds_entry.sql

-- The way in to ledger.expire_holds for the worker, who has no right in the ledger; returns {"expired": n}.
--
-- Replay, Locks, Refuses: as ledger.expire_holds.

create or replace function public.expire_holds(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return jsonb_build_object('expired', ledger.expire_holds(p_limit));
end
$$;

-- sql/10_ledger/hold.sql

-- Sets an amount aside, until it is settled, released or expires. Held value stays in the balance and cannot be spent.
--
-- Replay:  a hold id that exists already is answered with that hold as it stands; nothing is held twice.
-- Locks:   the account.
-- Refuses: invalid_amount, hold_reused, insufficient_funds.

create or replace function ledger.hold(
  p_book_id     uuid,
  p_hold_id     uuid,
  p_account     text,
  p_amount      bigint,
  p_source_type text,
  p_source_id   uuid,
  p_expires_at  timestamptz
)
returns ledger.holds
language plpgsql volatile
set search_path = ''
as $$
declare
  v_available bigint;
  v_hold ledger.holds;
begin
  if p_amount is null or p_amount <= 0 then
    perform internal.refuse('invalid_amount', format('%s cannot be held', p_amount));
  end if;

  select l.available into v_available from ledger.lock(array[p_book_id], p_account) as l;

  select h.* into v_hold from ledger.holds as h where h.book_id = p_book_id and h.hold_id = p_hold_id;
  if found then
    if (v_hold.account, v_hold.amount) is distinct from (p_account, p_amount) then
      perform internal.refuse('hold_reused', format('hold %s is of %s in %s', p_hold_id, v_hold.amount, v_hold.account));
    end if;
    return v_hold;
  end if;

  update ledger.accounts as a
     set held = a.held + p_amount, updated_at = internal.clock()
   where a.book_id = p_book_id and a.account = p_account and a.balance - a.held - p_amount >= a.floor;
  if not found then
    perform internal.refuse('insufficient_funds', format('Available: %s, Required: %s', coalesce(v_available, 0), p_amount));
  end if;

  insert into ledger.holds as h (book_id, hold_id, account, amount, source_type, source_id, expires_at)
  values (p_book_id, p_hold_id, p_account, p_amount, p_source_type, p_source_id, p_expires_at)
  returning h.* into v_hold;
  return v_hold;
end
$$;

-- sql/10_ledger/hold_many.sql

-- Sets amounts aside in many books at once, one hold a book, for whoever has locked the accounts and seen that all of them
-- fit: ledger.hold without the questions. Of each hold it takes the book, the id, the account, the amount, the source and
-- when it expires.
--
-- Replay:  none by itself: a hold that exists already is an error.
-- Locks:   none of its own: the caller holds the accounts' (ledger.lock).
-- Refuses: nothing; that one does not fit is an error.

create or replace function ledger.hold_many(p_holds ledger.holds[])
returns int
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_held int;
begin
  with held as (
    update ledger.accounts as a
       set held = a.held + h.amount, updated_at = v_now
      from unnest(p_holds) as h
     where a.book_id = h.book_id and a.account = h.account and a.balance - a.held - h.amount >= a.floor
    returning h.book_id, h.hold_id, h.account, h.amount, h.source_type, h.source_id, h.expires_at
  ), stored as (
    insert into ledger.holds (book_id, hold_id, account, amount, source_type, source_id, expires_at, created_at)
    select h.book_id, h.hold_id, h.account, h.amount, h.source_type, h.source_id, h.expires_at, v_now from held as h
  )
  select count(*) into v_held from held;
  if v_held <> cardinality(p_holds) then
    raise exception '% of % holds fitted', v_held, cardinality(p_holds);
  end if;
  return v_held;
end
$$;

-- sql/10_ledger/lock.sql

-- Locks one account of many books, in the order in which everything locks them, and says what each can spend.
-- A procedure that must decide before it posts (a limit per user, a price against a balance) decides under this lock.
-- A book that has no such account yet has nothing to spend and no row.

create or replace function ledger.lock(p_book_ids uuid[], p_account text)
returns table (book_id uuid, available bigint)
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return query
    select a.book_id, a.balance - a.held - a.floor
      from ledger.accounts as a
     where a.book_id = any (p_book_ids) and a.account = p_account
     order by a.book_id, a.account
       for update;
end
$$;

-- sql/10_ledger/open.sql

-- Makes an account that nothing was posted to yet, so that it can be locked in its place in the order. Whoever then has to
-- have it before others comes here first, holding none that come after it.
--
-- Replay:  an account that is there stays as it is.
-- Locks:   the new account; who opens the same waits.
-- Refuses: nothing.

create or replace function ledger.open(p_book_id uuid, p_account text)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into ledger.accounts (book_id, account, asset, floor, updated_at)
  select p_book_id, p_account, c.asset, c.floor, internal.clock()
    from ledger.chart_of_accounts as c where c.account = split_part(p_account, ':', 1) and c.floor is not null
  on conflict (book_id, account) do nothing;
end
$$;

-- sql/10_ledger/post.sql

-- Moves value: the only place that does. Takes one posting or a thousand; each is posted or refused by itself, and postings of a
-- set are taken in order of arrival. A set is written as if everything fitted and nothing were in the book, as it nearly always is;
-- where the book says no, what was written is undone and the set looked at closely.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: insufficient_funds, as an outcome: the account would fall below its floor, holds counted as gone.

create or replace function ledger.post(p_postings ledger.posting[])
returns setof ledger.posted
language plpgsql volatile
set search_path = ''
as $$
declare
  v_posted ledger.posted[];
begin
  if cardinality(p_postings) = 1 then
    return next ledger.post_one(p_postings[1]);
    return;
  end if;

  begin
    v_posted := ledger.post_set(p_postings, false);
  exception when check_violation or unique_violation then
    v_posted := ledger.post_closely(p_postings);
  end;
  return query select * from unnest(v_posted);
end
$$;

-- sql/10_ledger/post_closely.sql

-- Posts a set in which not everything fits as it comes, or of which something is in the book already. What comes in on the way
-- may pay for what goes out after it, so every account is followed through the set. A book in which something does not fit is
-- posted one by one, because what is refused leaves room for what comes after it; all others are posted as a set.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: insufficient_funds, as an outcome.

create or replace function ledger.post_closely(p_postings ledger.posting[])
returns ledger.posted[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_ways text[];  -- how each is posted: 'in a set', 'by itself', or not at all: 'replayed'
  v_set ledger.posted[];
  v_taken int := 0;
  v_one ledger.posted;
  v_posted ledger.posted[];
begin
  perform from (
      select distinct p.book_id, l.account
        from unnest(p_postings) as p
       cross join lateral (values (p.from_account), (p.to_account)) as l(account)
       order by p.book_id, l.account) as l
   cross join lateral (
         select from ledger.accounts as a where a.book_id = l.book_id and a.account = l.account for update) as a;

  with posting as materialized (
    select p.*, t.transfer_id is not null as replayed, lag(true) over (partition by p.book_id, p.transfer_id order by p.position) as again
      from unnest(p_postings) with ordinality as p(
             transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
      left join lateral (
           select x.transfer_id from ledger.transfers as x
            where x.book_id = p.book_id and x.transfer_id = p.transfer_id limit 1) as t on true
  ), running as (
    select p.book_id, l.account, c.floor, l.delta,
           sum(l.delta) over (partition by p.book_id, l.account order by p.position) as moved
      from posting as p
     cross join lateral (values (p.from_account, -p.amount), (p.to_account, p.amount)) as l(account, delta)
      join ledger.chart_of_accounts as c on c.account = split_part(l.account, ':', 1) and c.floor is not null
     where not p.replayed and p.again is null
  ), lowest as (
    select r.book_id, r.account, r.floor, min(r.moved) filter (where r.delta < 0) as moved
      from running as r
     group by r.book_id, r.account, r.floor
  ), crowded as materialized (
    select distinct l.book_id
      from lowest as l
      left join lateral (
           select a.balance - a.held - a.floor as room
             from ledger.accounts as a
            where a.book_id = l.book_id and a.account = l.account limit 1) as a on true
     where coalesce(a.room, -l.floor) + l.moved < 0
  )
  select array_agg(case when c.book_id is not null then 'by itself' when p.replayed or p.again then 'replayed' else 'in a set' end
                   order by p.position)
    into v_ways
    from posting as p
    left join crowded as c on c.book_id = p.book_id;

  v_set := ledger.post_set(array(
    select p_postings[w.place] from unnest(v_ways) with ordinality as w(way, place) where w.way = 'in a set' order by w.place), true);

  for v_place in 1 .. cardinality(p_postings) loop
    if v_ways[v_place] = 'by itself' then
      v_one := ledger.post_one(p_postings[v_place]);
    elsif v_ways[v_place] = 'replayed' then
      v_one := row(null, (p_postings[v_place]).transfer_id, 'replayed', null, null);
    else
      v_taken := v_taken + 1;
      v_one := v_set[v_taken];
    end if;
    v_one.position := v_place;
    v_posted[v_place] := v_one;
  end loop;

  -- Everybody is told what an account holds after the whole set.
  return array(
    select row(o.position, o.transfer_id, o.outcome,
               case when o.outcome = 'posted' then f.available end, case when o.outcome = 'posted' then t.available end)::ledger.posted
      from unnest(v_posted) as o
      left join lateral (
           select a.balance - a.held as available from ledger.accounts as a
            where a.book_id = p_postings[o.position].book_id and a.account = p_postings[o.position].from_account limit 1) as f on true
      left join lateral (
           select a.balance - a.held as available from ledger.accounts as a
            where a.book_id = p_postings[o.position].book_id and a.account = p_postings[o.position].to_account limit 1) as t on true
     order by o.position);
end
$$;

-- sql/10_ledger/post_one.sql

-- Posts one posting by itself: what ledger.post does with a set of one, and with a book in which not everything fits.
-- A few short statements cost less than the one that handles sets.
--
-- Replay:  a transfer id that is in the book already is answered as 'replayed'; nothing moves twice.
-- Locks:   the accounts that keep a balance, in the order of their names.
-- Refuses: insufficient_funds, as an outcome.

create or replace function ledger.post_one(p_posting ledger.posting)
returns ledger.posted
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_asset text;
  v_from_floor bigint;
  v_to_floor bigint;
  v_posted ledger.posted;
begin
  v_posted.position := 1;
  v_posted.transfer_id := p_posting.transfer_id;

  -- No asset, and so an error, where the two accounts are not of one asset or not in the chart.
  select case when f.asset = o.asset then f.asset end, f.floor, o.floor
    into v_asset, v_from_floor, v_to_floor
    from ledger.chart_of_accounts as f
    join ledger.chart_of_accounts as o on o.account = split_part(p_posting.to_account, ':', 1)
   where f.account = split_part(p_posting.from_account, ':', 1);

  perform from ledger.accounts as a
    where a.book_id = p_posting.book_id and a.account in (p_posting.from_account, p_posting.to_account)
    order by a.account
      for update;

  perform from ledger.transfers as t where t.book_id = p_posting.book_id and t.transfer_id = p_posting.transfer_id;
  if found then
    v_posted.outcome := 'replayed';
    return v_posted;
  end if;

  if v_from_floor is not null then
    update ledger.accounts as a
       set balance = a.balance - p_posting.amount, updated_at = v_now
     where a.book_id = p_posting.book_id and a.account = p_posting.from_account
       and a.balance - a.held - p_posting.amount >= a.floor
    returning a.balance - a.held into v_posted.from_available;
    -- An account with credit may be opened by what it spends.
    if not found and p_posting.amount <= -v_from_floor then
      insert into ledger.accounts as a (book_id, account, asset, balance, floor, updated_at)
      values (p_posting.book_id, p_posting.from_account, v_asset, -p_posting.amount, v_from_floor, v_now)
      on conflict (book_id, account) do nothing
      returning a.balance - a.held into v_posted.from_available;
    end if;
    if v_posted.from_available is null then
      v_posted.outcome := 'insufficient_funds';
      return v_posted;
    end if;
  end if;

  insert into ledger.transfers as t (
         transfer_id, book_id, from_account, to_account, asset, amount, kind, source_type, source_id, effective_at,
         recorded_at)
  values (p_posting.transfer_id, p_posting.book_id, p_posting.from_account, p_posting.to_account, v_asset, p_posting.amount,
         p_posting.kind, p_posting.source_type, p_posting.source_id, coalesce(p_posting.effective_at, v_now),
         v_now);

  if v_to_floor is not null then
    insert into ledger.accounts as a (book_id, account, asset, balance, floor, updated_at)
    values (p_posting.book_id, p_posting.to_account, v_asset, p_posting.amount, v_to_floor, v_now)
    on conflict (book_id, account) do update
       set balance = a.balance + excluded.balance, updated_at = v_now
    returning a.balance - a.held into v_posted.to_available;
  end if;

  v_posted.outcome := 'posted';
  return v_posted;
end
$$;

-- sql/10_ledger/post_set.sql

-- Writes a set of postings as one statement: all of them, or none. What ledger.post tries first, since nearly always nothing of a
-- set is in the book and everything fits.
--
-- The accounts hold what leaves them before anything of the set comes in, so that no order could make one fall below its floor.
-- Where that was looked at otherwise, p_is_known_to_fit says so.
--
-- Replay:  none: it fails with a unique violation where a transfer is in the book.
-- Locks:   the accounts that keep a balance, in the order of (book_id, account); then new accounts in that order.
-- Refuses: nothing: it fails with a check violation where an account does not hold what leaves it.

create or replace function ledger.post_set(p_postings ledger.posting[], p_is_known_to_fit boolean)
returns ledger.posted[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_posted ledger.posted[];
  v_fits boolean;
begin
  with posting as materialized (
    -- No asset, and so an error, where the two accounts are not of one asset or not in the chart.
    select p.*, case when f.asset = o.asset then f.asset end as asset, f.floor as from_floor, o.floor as to_floor
      from unnest(p_postings) with ordinality as p(
             transfer_id, book_id, from_account, to_account, amount, kind, source_type, source_id, effective_at, position)
      left join ledger.chart_of_accounts as f on f.account = split_part(p.from_account, ':', 1)
      left join ledger.chart_of_accounts as o on o.account = split_part(p.to_account, ':', 1)
  ), written as (
    insert into ledger.transfers as t (
           transfer_id, book_id, from_account, to_account, asset, amount, kind, source_type, source_id, effective_at, recorded_at)
    select p.transfer_id, p.book_id, p.from_account, p.to_account, p.asset, p.amount, p.kind,
           p.source_type, p.source_id, coalesce(p.effective_at, v_now), v_now
      from posting as p
  ), moved as (
    select p.book_id, l.account, p.asset, l.floor, sum(l.delta)::bigint as delta, sum(greatest(-l.delta, 0))::bigint as outflow
      from posting as p
     cross join lateral (values (p.from_account, -p.amount, p.from_floor), (p.to_account, p.amount, p.to_floor)) as l(account, delta, floor)
     -- The table refuses what is not above zero; here it says how few these are, so that accounts are looked up and not walked through.
     where l.floor is not null and p.amount > 0
     group by p.book_id, l.account, p.asset, l.floor
     order by p.book_id, l.account
  ), changed as (
    update ledger.accounts as a
       set balance = a.balance + m.delta, updated_at = v_now
      from moved as m
     where a.book_id = m.book_id and a.account = m.account
    returning a.book_id, a.account, a.balance - a.held as available, a.balance - m.delta - a.held - a.floor >= m.outflow as fits
  ), opened as (
    insert into ledger.accounts as a (book_id, account, asset, balance, floor, updated_at)
    select m.book_id, m.account, m.asset, m.delta, m.floor, v_now
      from moved as m
     where not exists (select from changed as c where c.book_id = m.book_id and c.account = m.account)
     order by m.book_id, m.account
    on conflict (book_id, account) do update
       set balance = a.balance + excluded.balance, updated_at = v_now
    returning a.book_id, a.account, a.balance - a.held as available
  ), now_available as (
    select c.book_id, c.account, c.available, c.fits from changed as c
     union all
    select o.book_id, o.account, o.available, m.outflow <= -m.floor
      from opened as o
      join moved as m on m.book_id = o.book_id and m.account = o.account
  )
  select array_agg(row(p.position, p.transfer_id, 'posted', f.available, t.available)::ledger.posted order by p.position),
         coalesce(bool_and(f.fits), true)
    into v_posted, v_fits
    from posting as p
    left join now_available as f on f.book_id = p.book_id and f.account = p.from_account
    left join now_available as t on t.book_id = p.book_id and t.account = p.to_account;

  if not v_fits and not p_is_known_to_fit then
    raise check_violation using message = 'an account does not hold what leaves it';
  end if;
  return v_posted;
end
$$;

-- sql/10_ledger/release.sql

-- Gives a hold back.
--
-- Replay:  a hold that was released already is answered as it stands.
-- Locks:   the account, then the hold.
-- Refuses: hold_not_found, hold_closed.

create or replace function ledger.release(p_book_id uuid, p_hold_id uuid)
returns ledger.holds
language plpgsql volatile
set search_path = ''
as $$
declare
  v_hold ledger.holds;
begin
  -- Whoever is ending this hold has done so before it is read: of two releases the second finds the first.
  perform ledger.lock(array[h.book_id], h.account)
     from ledger.holds as h
    where h.book_id = p_book_id and h.hold_id = p_hold_id;

  select h.* into v_hold
    from ledger.holds as h
   where h.book_id = p_book_id and h.hold_id = p_hold_id and h.status = 'released';
  if found then
    return v_hold;
  end if;
  return ledger.close_hold(p_book_id, p_hold_id, 'released');
end
$$;

-- sql/10_ledger/set_floor.sql

-- Says how far an account may fall: to nothing, as the chart has it, or further where its owner may owe. An account that is
-- not there yet is opened, so that the floor waits for what comes.
--
-- Replay:  the same floor again changes nothing.
-- Locks:   the account.
-- Refuses: insufficient_funds, when what can be spent lies below the floor already.

create or replace function ledger.set_floor(p_book_id uuid, p_account text, p_floor bigint)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_account ledger.accounts;
begin
  insert into ledger.accounts (book_id, account, asset, floor, updated_at)
  select p_book_id, c.account, c.asset, c.floor, v_now
    from ledger.chart_of_accounts as c where c.account = p_account and c.floor is not null
  on conflict (book_id, account) do nothing;

  select a.* into v_account from ledger.accounts as a where a.book_id = p_book_id and a.account = p_account for update;
  if v_account.account is null then
    raise exception '% is no account that keeps a balance', p_account;
  end if;
  if v_account.balance - v_account.held < p_floor then
    perform internal.refuse('insufficient_funds', format('Available: %s, Required: %s', v_account.balance - v_account.held, p_floor));
  end if;

  update ledger.accounts as a
     set floor = p_floor, updated_at = v_now
   where a.book_id = p_book_id and a.account = p_account and a.floor <> p_floor;
end
$$;

-- sql/10_ledger/settle.sql

-- Spends a hold, whole or in part; what is not settled becomes available again.
--
-- Replay:  a hold settled already with this amount is answered as 'replayed'.
-- Locks:   the account, then the hold.
-- Refuses: invalid_amount, hold_not_found, hold_exceeded, hold_closed.

create or replace function ledger.settle(
  p_book_id    uuid,
  p_hold_id    uuid,
  p_to_account text,
  p_amount     bigint,
  p_kind       text
)
returns ledger.posted
language plpgsql volatile
set search_path = ''
as $$
declare
  v_hold ledger.holds;
  v_posted ledger.posted;
begin
  if p_amount is null or p_amount <= 0 then
    perform internal.refuse('invalid_amount', format('%s cannot be settled', p_amount));
  end if;

  -- Whoever is ending this hold has done so before it is read: of two equal settlements the second finds the first.
  perform ledger.lock(array[h.book_id], h.account)
     from ledger.holds as h
    where h.book_id = p_book_id and h.hold_id = p_hold_id;

  select h.* into v_hold from ledger.holds as h where h.book_id = p_book_id and h.hold_id = p_hold_id;
  if p_amount > v_hold.amount then
    perform internal.refuse('hold_exceeded', format('Held: %s, Required: %s', v_hold.amount, p_amount));
  end if;

  -- The transfer is named by its hold, so a settlement that is repeated finds it in the book.
  if v_hold.status is distinct from 'settled' or v_hold.settled is distinct from p_amount then
    v_hold := ledger.close_hold(p_book_id, p_hold_id, 'settled', p_amount);
  end if;

  select p.* into v_posted
    from ledger.post(array[row(p_hold_id, p_book_id, v_hold.account, p_to_account, p_amount, p_kind,
           v_hold.source_type, v_hold.source_id, null)::ledger.posting]) as p;
  return v_posted;
end
$$;

-- sql/10_ledger/statement.sql

-- An account's entries as its owner would read them: signed, in the order in which they count, with the balance after each.

create or replace view ledger.statement
with (security_invoker = true)
as
select e.book_id, e.account, e.asset, e.effective_at, e.recorded_at, e.kind, e.amount,
       sum(e.amount) over (
         partition by e.book_id, e.account order by e.effective_at, e.transfer_id)::bigint as balance_after,
       e.source_type, e.source_id, e.transfer_id
  from (
    select t.*, t.to_account as account from ledger.transfers as t
  ) as t
 cross join lateral (
    values (t.book_id, t.to_account,   t.asset, t.effective_at, t.recorded_at, t.kind,  t.amount, t.source_type, t.source_id, t.transfer_id),
           (t.book_id, t.from_account, t.asset, t.effective_at, t.recorded_at, t.kind, -t.amount, t.source_type, t.source_id, t.transfer_id)
  ) as e(book_id, account, asset, effective_at, recorded_at, kind, amount, source_type, source_id, transfer_id);

-- sql/15_attestation/00_tables.sql

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

-- sql/15_attestation/claim_attestation.sql

-- Who may ask Google what a token says: one at a time, once a token, and no more often a day than p_budget. Answers the
-- state: 'claimed' (ask, then record_attestation with "until"), 'known' (with the verdict), 'busy' (somebody asks just now),
-- 'spent' (the day's budget). "decodes" counts the day's, and "alert" is true for the one that reaches 80 % of the budget.
--
-- The budget is everybody's, so nobody uses it up alone: a token counts for nothing without an open challenge of its user
-- ('challenge'), or from whom 20 were refused within the hour ('failing'). A worker, who checks what was accepted already,
-- names no user.
--
-- Replay:  a known token is known for an hour, longer than any token is fresh.
-- Locks:   the token's entry, then the day's count.
-- Refuses: nothing.

create or replace function public.claim_attestation(
  p_user_id        uuid,
  p_token_hash     text,
  p_budget         int,
  p_challenge_hash text default null,
  p_request_hash   text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_known public.attestation_cache;
  v_decodes int;
begin
  select a.* into v_known from public.attestation_cache as a where a.attestation_token_hash = p_token_hash for update;
  if v_known.is_valid is not null then
    return jsonb_build_object('state', 'known', 'is_valid', v_known.is_valid, 'verdict', v_known.integrity_verdict);
  elsif v_known.claimed_until > v_now then
    return jsonb_build_object('state', 'busy');
  elsif p_user_id is not null and not exists (
          select from public.attestation_challenges as c
           where c.user_id = p_user_id and c.challenge_hash = p_challenge_hash and c.purpose = 'submit' and c.platform = 'android'
             and (c.request_hash is null and c.expires_at > v_now or c.request_hash = p_request_hash)) then
    return jsonb_build_object('state', 'challenge');
  elsif (select sum(f.failures) from public.attestation_failures as f
          where f.user_id = p_user_id and f.hour >= date_trunc('hour', v_now - interval '1 hour')) >= 20 then
    return jsonb_build_object('state', 'failing');
  end if;

  insert into public.attestation_cache as a (attestation_token_hash, platform, claimed_until, created_at, expires_at)
  values (p_token_hash, 'android', v_now + interval '10 seconds', v_now, v_now + interval '1 hour')
  on conflict (attestation_token_hash) do update
     set claimed_until = excluded.claimed_until
   where a.is_valid is null and (a.claimed_until is null or a.claimed_until <= v_now);
  if not found then
    return jsonb_build_object('state', 'busy');  -- somebody was as fast
  end if;

  insert into public.attestation_decodes as d (day, decodes) select (v_now at time zone 'UTC')::date, 1 where p_budget > 0
  on conflict (day) do update set decodes = d.decodes + 1 where d.decodes < p_budget
  returning d.decodes into v_decodes;
  if v_decodes is null then
    update public.attestation_cache as a set claimed_until = null where a.attestation_token_hash = p_token_hash;
    return jsonb_build_object('state', 'spent');
  end if;
  return jsonb_build_object('state', 'claimed', 'until', v_now + interval '10 seconds', 'decodes', v_decodes, 'alert', v_decodes = ceil(p_budget * 0.8));
end
$$;

-- sql/15_attestation/cleanup_expired_attestations.sql

-- Forgets what was known of attestation tokens and the challenges nobody can answer any more, oldest first, at most p_limit
-- of each, after an hour the tokens that nobody checked again, and after 90 days what failed and how often Google was
-- asked; returns {"removed": n}.
--
-- Replay:  what is gone is not there; a second run finds others or none.
-- Locks:   the entries, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.cleanup_expired_attestations(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tokens int;
  v_challenges int;
begin
  with due as materialized (
    select a.attestation_token_hash
      from public.attestation_cache as a
     where a.expires_at <= v_now
     order by a.expires_at
     limit p_limit
       for update skip locked
  )
  delete from public.attestation_cache as a
   using due as d
   where a.attestation_token_hash = d.attestation_token_hash;
  get diagnostics v_tokens = row_count;

  with due as materialized (
    select c.user_id, c.challenge_hash
      from public.attestation_challenges as c
     where c.expires_at <= v_now
     order by c.expires_at
     limit p_limit
       for update skip locked
  )
  delete from public.attestation_challenges as c
   using due as d
   where c.user_id = d.user_id and c.challenge_hash = d.challenge_hash;
  get diagnostics v_challenges = row_count;

  -- No token is as old; where a worker checks again, it has given them up already.
  delete from public.attestation_rechecks as r where r.due_at <= v_now and r.received_at <= v_now - interval '1 hour';
  delete from public.attestation_failures as f where f.hour < v_now - interval '90 days';
  delete from public.attestation_decodes as d where d.day < (v_now at time zone 'UTC')::date - 90;
  return jsonb_build_object('removed', greatest(v_tokens, v_challenges));
end
$$;

-- sql/15_attestation/create_attestation_challenge.sql

-- Asks a device something new: 32 bytes that nobody can guess, in URL-safe base64 without padding. The device answers with
-- them; here only their SHA-256 is kept.
--
-- Replay:  none: a lost challenge is replaced by another one.
-- Locks:   the user against other challenges of theirs.
-- Refuses: rate_limited.

create or replace function public.create_attestation_challenge(p_user_id uuid, p_purpose text, p_platform text)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_open int;
  v_oldest timestamptz;
  v_bytes bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));  -- of 244 random bits
  v_challenge public.attestation_challenges;
begin
  perform internal.act_for(array[p_user_id]);
  perform pg_advisory_xact_lock(hashtextextended(p_user_id::text, 15));
  select count(*), min(c.expires_at) into v_open, v_oldest
    from public.attestation_challenges as c
   where c.user_id = p_user_id and c.request_hash is null and c.expires_at > v_now;
  if v_open >= 100 then
    perform internal.refuse('rate_limited', format('open_challenges: 100 in 300 s; again in %s s', ceil(extract(epoch from v_oldest - v_now))));
  end if;

  insert into public.attestation_challenges as c (user_id, challenge_hash, purpose, platform, created_at, expires_at)
  values (p_user_id, encode(sha256(v_bytes), 'hex'), p_purpose, p_platform, v_now, v_now + interval '5 minutes')
  returning c.* into v_challenge;
  return jsonb_build_object(
    'challenge_id', v_challenge.challenge_id, 'challenge', rtrim(translate(encode(v_bytes, 'base64'), '+/', '-_'), '='),
    'expires_at', v_challenge.expires_at);
end
$$;

-- sql/15_attestation/device_public_key.sql

-- The public key that a registered device signs with, which never changes; null in its place when there is none. Whether the key still
-- counts is settled with the request that it signed.

create or replace function public.device_public_key(p_user_id uuid, p_key_id text)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return jsonb_build_object('public_key', (select k.public_key from public.device_keys as k where k.key_id = p_key_id));
end
$$;

-- sql/15_attestation/due_attestations.sql

-- What is to be checked again now, with its token, at most p_limit of them; each waits twice as long as the last time
-- before it is due again, so whoever dies over one loses nothing. After an hour nobody asks any more: no token is as old.
--
-- Replay:  what was handed out is not due until its time has come.
-- Locks:   the entries, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.due_attestations(p_limit int default 100)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_due jsonb;
  v_given_up int;
begin
  delete from public.attestation_rechecks as r where r.due_at <= v_now and r.received_at <= v_now - interval '1 hour';
  get diagnostics v_given_up = row_count;

  with due as materialized (
    select r.user_id, r.event_id
      from public.attestation_rechecks as r
     where r.due_at <= v_now
     order by r.due_at
     limit p_limit
       for update skip locked
  ), taken as (
    update public.attestation_rechecks as r
       set tries = r.tries + 1, due_at = v_now + least(interval '10 seconds' * 2 ^ least(r.tries + 1, 10), interval '5 minutes')
      from due as d
     where r.user_id = d.user_id and r.event_id = d.event_id
    returning r.user_id, r.event_id, r.token, r.request_hash, r.received_at
  )
  select coalesce(jsonb_agg(to_jsonb(t) order by t.received_at), '[]') into v_due from taken as t;
  return jsonb_build_object('due', v_due, 'given_up', v_given_up);
end
$$;

-- sql/15_attestation/fail_attestation.sql

-- Writes down that a device's evidence was refused. Nobody fills the table by trying again and again: it is counted.
--
-- Locks:   the failure's row.

create or replace function internal.fail_attestation(p_claim internal.attestation_claim, p_reason text, p_event_id uuid default null)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into public.attestation_failures as f (
         user_id, hour, reason, purpose, platform, key_id, event_id, detail, request_id, failed_at)
  values (p_claim.user_id, date_trunc('hour', internal.clock()), p_reason, p_claim.purpose, (p_claim.evidence).platform,
          (p_claim.evidence).key_id, p_event_id, (p_claim.evidence).detail, p_claim.request_id, internal.clock())
  on conflict (user_id, hour, reason) do update
     set failures = f.failures + 1, failed_at = excluded.failed_at, detail = excluded.detail, key_id = excluded.key_id,
         request_id = excluded.request_id, event_id = coalesce(excluded.event_id, f.event_id);
end
$$;

-- sql/15_attestation/record_attestation.sql

-- Keeps what Google said of a token: p_verdict as it came, and whether it is one; null for both when there was no answer,
-- which ends the claim until p_until and no later one.
--
-- Replay:  the first verdict stays.
-- Locks:   the token's entry.
-- Refuses: nothing.

create or replace function public.record_attestation(p_token_hash text, p_until timestamptz, p_is_valid boolean default null, p_verdict jsonb default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  update public.attestation_cache as a
     set is_valid = p_is_valid, integrity_verdict = p_verdict, claimed_until = null
   where a.attestation_token_hash = p_token_hash and a.is_valid is null
     and (p_is_valid is not null or a.claimed_until = p_until);
  return jsonb_build_object('recorded', found);
end
$$;

-- sql/15_attestation/register_device_key.sql

-- Keeps the key of a device that App Attest has vouched for. p_attestation is an internal.attestation_evidence; a verified
-- one also has public_key, app_id, environment, validation_category and receipt.
--
-- Replay:  the same user with the same challenge is answered as the first time, with "replayed".
-- Locks:   the challenge, then the key.
-- Refuses: attestation_failed, device_key_taken; both are returned as {"refusal": …}, because they are written down.

create or replace function public.register_device_key(p_user_id uuid, p_key_id text, p_attestation jsonb, p_request_id text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_evidence internal.attestation_evidence := jsonb_populate_record(null::internal.attestation_evidence, p_attestation);
  v_reason text := case when v_evidence.status is distinct from 'verified' then coalesce(v_evidence.reason, v_evidence.status, 'missing') end;
  v_key public.device_keys;
begin
  perform internal.act_for(array[p_user_id]);

  if v_reason is null then
    update public.attestation_challenges as a
       set request_hash = v_evidence.request_hash
     where a.user_id = p_user_id and a.challenge_hash = v_evidence.challenge_hash and a.purpose = 'register'
       and a.platform = 'ios' and a.request_hash is null and v_evidence.request_hash is not null and a.expires_at > v_now;
    if not found then
      -- Looked up only now: the same registration may have come twice at once, and waited for the other.
      select k.* into v_key
        from public.device_keys as k
       where k.key_id = p_key_id and k.user_id = p_user_id and k.challenge_hash = v_evidence.challenge_hash;
      if found then
        return jsonb_build_object(
          'key_id', v_key.key_id, 'environment', v_key.environment, 'registered_at', v_key.registered_at, 'replayed', true);
      end if;
      v_reason := 'challenge_not_valid';
    end if;
  end if;
  if v_reason is null then
    insert into public.device_keys as k (
           key_id, public_key, user_id, app_id, environment, validation_category, receipt, challenge_hash, registered_at, request_id)
    values (p_key_id, p_attestation ->> 'public_key', p_user_id, p_attestation ->> 'app_id', p_attestation ->> 'environment',
            (p_attestation ->> 'validation_category')::bigint, p_attestation ->> 'receipt', v_evidence.challenge_hash, v_now, p_request_id)
    on conflict (key_id) do nothing;
    v_reason := case when not found then 'key_taken' end;
  end if;

  if v_reason is not null then
    perform internal.fail_attestation(row(1, p_user_id, 'register', p_request_id, v_evidence)::internal.attestation_claim, v_reason);
    return jsonb_build_object('refusal', case v_reason
      when 'key_taken' then internal.refusal('device_key_taken', format('key_id: %s', p_key_id))
      else internal.refusal('attestation_failed', format('reason: %s', v_reason)) end);
  end if;
  insert into public.device_key_users (key_id, user_id, first_seen_at) values (p_key_id, p_user_id, v_now);
  return jsonb_build_object(
    'key_id', p_key_id, 'environment', p_attestation ->> 'environment', 'registered_at', v_now, 'replayed', false);
end
$$;

-- sql/15_attestation/settle_attestations.sql

-- Consumes what verified evidence may be used for once: its challenge, and the number its device counted for it. Answers
-- the position and the reason of each claim that is refused; those are written down.
--
-- What is bound to one request is good for that request alone, so the very same bytes may come again: whatever they cause
-- has its own key. A device that signed them twice may be heard the wrong way round; its number never goes down.
--
-- Locks:   challenges by user, then device keys by id, then new rows of both.
-- Refuses: nothing: a refusal that is raised would take back what was consumed and what was written down.

create or replace function internal.settle_attestations(p_claims internal.attestation_claim[])
returns table ("position" int, reason text)
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_refused int[];
  v_reasons text[];
begin
  with claim as materialized (
    select c."position", c.user_id, c.purpose, (c.evidence).* from unnest(p_claims) as c
  ), challenged as (
    update public.attestation_challenges as a
       set request_hash = c.request_hash
      from (select x.* from claim as x where x.status in ('verified', 'unavailable') order by x.user_id) as c
     where a.user_id = c.user_id and a.challenge_hash = c.challenge_hash and a.purpose = c.purpose and a.platform = c.platform
       and c.request_hash is not null and (a.request_hash is null and a.expires_at > v_now or a.request_hash = c.request_hash)
    returning a.user_id
  ), held as materialized (
    select k.key_id, k.sign_count, k.request_hash
      from public.device_keys as k
     where k.key_id in (select c.key_id from claim as c where c.key_id is not null) and k.revoked_at is null
     order by k.key_id
       for update
  ), judged as materialized (
    select c.*,
           case
             when c.status = 'failed' then c.reason
             when h.user_id is null then 'challenge_not_valid'
             when c.platform = 'ios' and k.key_id is null then 'unknown_key'
             when c.platform = 'ios' and c.sign_count <= k.sign_count and c.request_hash is distinct from k.request_hash then 'counter_not_greater'
           end as refused
      from claim as c
      left join challenged as h on h.user_id = c.user_id
      left join held as k on k.key_id = c.key_id
     where c.status in ('verified', 'unavailable', 'failed')
  ), settled as materialized (
    -- Of two that are good for themselves and bear one number in one set, the first counts.
    select j."position", j.user_id, j.platform, j.request_hash, j.key_id, j.sign_count,
           case
             when j.refused is not null then j.refused
             when j.platform = 'ios' and row_number() over (
                    partition by j.key_id, j.sign_count, j.refused is null order by j."position") > 1 then 'counter_not_greater'
           end as refused
      from judged as j
  ), counted as (
    update public.device_keys as k
       set sign_count = greatest(k.sign_count, n.sign_count), request_hash = n.request_hash, last_used_at = v_now
      from (select distinct on (j.key_id) j.key_id, j.sign_count, j.request_hash
              from settled as j
             where j.refused is null and j.platform = 'ios'
             order by j.key_id, j.sign_count desc) as n
     where k.key_id = n.key_id
  ), shared as (
    insert into public.device_key_users as u (key_id, user_id, first_seen_at)
    select j.key_id, j.user_id, v_now from settled as j where j.refused is null and j.platform = 'ios' order by j.key_id, j.user_id
    on conflict (key_id, user_id) do nothing
  )
  select array_agg(j."position" order by j."position"), array_agg(j.refused order by j."position") into v_refused, v_reasons
    from settled as j
   where j.refused is not null;

  for v_number in 1 .. coalesce(cardinality(v_refused), 0) loop
    perform internal.fail_attestation(c, v_reasons[v_number]) from unnest(p_claims) as c where c."position" = v_refused[v_number];
    "position" := v_refused[v_number];
    reason := v_reasons[v_number];
    return next;
  end loop;
end
$$;

-- sql/20_points/00_tables.sql

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

-- sql/20_points/audit_points_award.sql

-- Writes down an award or a deduction, however it comes: the procedure's, or the row that an operator's runbook inserts.
--
-- Locks:   none.
-- Refuses: nothing.

create or replace function internal.audit_points_award()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform internal.audit(
    coalesce(new.validated_by, session_user), 'points.award', 'points_event', new.id::text, new.validation_notes, null,
    jsonb_build_object('user_id', new.user_id, 'points', new.points_delta, 'status', new.validation_status), new.request_id);
  return null;
end
$$;

create or replace trigger points_awards_are_audited
after insert on public.points_events
for each row
when (new.event_type in ('admin_award', 'admin_deduction'))
execute function internal.audit_points_award();

-- sql/20_points/award_points.sql

-- Gives a user points, or takes some, by an administrator's decision; p_points is signed. An award of more than the
-- program allows one person to give waits in review for a second administrator.
-- Returns {event_id, user_id, points, status, points_available}.
--
-- Replay:  the same award under the same key is answered as the first time, with "replayed"; without a key it is a new one.
-- Locks:   the points account, the cache row.
-- Refuses: forbidden, reason_required, invalid_points, own_event, nonce_reused, insufficient_funds.

create or replace function public.award_points(
  p_user_id         uuid,
  p_to_user_id      uuid,
  p_points          int,
  p_reason          text,
  p_idempotency_key text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_actor text := internal.actor(p_user_id, p_actor);
  v_type text := case when p_points < 0 then 'admin_deduction' else 'admin_award' end;
  v_id uuid := internal.uuidv7();
  v_status text;
  v_outcome text;
  v_event public.points_events;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  if p_to_user_id is null or p_points is null or p_points = 0 then
    perform internal.refuse('invalid_points', 'points: must be a number other than zero');
  end if;
  if p_to_user_id = p_user_id then
    perform internal.refuse('own_event', 'to_user_id: nobody awards points to themselves');
  end if;

  select case when p_points > g.award_review_above then 'pending_review' else 'validated' end into v_status
    from public.points_rules as r
    join public.points_programs as g on g.program = r.program
   where r.event_type = v_type;

  insert into public.points_events as e (
         user_id, id, event_type, event_time, points_delta, proof_type, validation_status, validated_at, validated_by,
         validation_notes, nonce, payload_hash, request_id, transfer_id, created_at, updated_at)
  values (p_to_user_id, v_id, v_type, v_now, p_points, 'manual_admin', v_status, case when v_status = 'validated' then v_now end,
          v_actor, p_reason, p_idempotency_key,
          internal.points_event_hash(p_to_user_id, 'award', null, coalesce(p_idempotency_key, v_id::text)), p_request_id,
          case when v_status = 'validated' then v_id end, v_now, v_now)
  on conflict (user_id, payload_hash) do nothing;
  if not found then
    select e.* into v_event from public.points_events as e
     where e.user_id = p_to_user_id and e.payload_hash = internal.points_event_hash(p_to_user_id, 'award', null, p_idempotency_key);
    if (v_event.points_delta, v_event.validation_notes) is distinct from (p_points, p_reason) then
      perform internal.refuse('nonce_reused', format('idempotency_key: %s came with another award before', p_idempotency_key));
    end if;
    v_id := v_event.id;
    v_status := v_event.validation_status;
  else
    select m.outcome into v_outcome
      from internal.move_points(array[row(p_to_user_id, v_id, case when v_status = 'validated' then p_points else 0 end,
             case when v_status = 'validated' then 0 else p_points end, v_type, v_now)::internal.points_move]) as m;
    if v_outcome = 'insufficient_funds' then
      perform internal.refuse('insufficient_funds', format('points: the user has fewer than %s', -p_points));
    end if;
  end if;

  return jsonb_build_object(
    'event_id', v_id, 'user_id', p_to_user_id, 'points', p_points, 'status', v_status,
    'points_available', coalesce((select a.balance - a.held from ledger.accounts as a where a.book_id = p_to_user_id and a.account = 'points'), 0),
    'replayed', v_event.id is not null);
end
$$;

-- sql/20_points/cleanup_expired_nonces.sql

-- Forgets the nonces whose time is up, oldest first, at most p_limit of them; returns {"removed": n}.
-- The copy of a coupon's code that a replay shows goes with them. What a nonce caused stays known for ever: the event
-- keeps the hash of its payload, so the same submission is still answered as the first time.
--
-- Replay:  a nonce that is gone is not there; a second run finds others or none.
-- Locks:   the nonces, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.cleanup_expired_nonces(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_removed int;
begin
  with due as materialized (
    select n.user_id, n.nonce
      from public.used_nonces as n
     where n.expires_at <= internal.clock()
     order by n.expires_at
     limit p_limit
       for update skip locked
  )
  delete from public.used_nonces as n
   using due as d
   where n.user_id = d.user_id and n.nonce = d.nonce;
  get diagnostics v_removed = row_count;
  return jsonb_build_object('removed', v_removed);
end
$$;

-- sql/20_points/complete_points_event.sql

-- Fills what a hand-written row leaves out: an operator's insert names no payload hash, and needs none to be unique.

create or replace function internal.complete_points_event()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.payload_hash := internal.points_event_hash(
    new.user_id, new.event_type, new.event_time, coalesce(new.nonce, new.id::text), new.related_entity_type, new.related_entity_id);
  if new.validation_status = 'validated' then
    new.validated_at := coalesce(new.validated_at, internal.clock());
  end if;
  return new;
end
$$;

create or replace trigger points_events_are_complete
before insert on public.points_events
for each row
when (new.payload_hash is null)
execute function internal.complete_points_event();

-- sql/20_points/earned_lots.sql

-- What users have, by when it was earned: each posting that brought points, what of it is left, and when that expires.
-- First earned, first spent: what was spent or is held is taken from the oldest. What expired is taken from the lot that
-- it names. Nothing of this is stored, so nothing of it can disagree with the ledger; it costs a walk through the transfers
-- of each user.

create or replace function internal.earned_lots(p_user_ids uuid[])
returns table (
  user_id uuid, event_id uuid, event_type text, program text, earned_at timestamptz, points bigint, remaining bigint, expires_at timestamptz
)
language plpgsql stable
set search_path = ''
set timezone = 'UTC'  -- a day has 24 hours, in whatever zone somebody looks
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return query
  with entry as (
    select t.book_id, t.transfer_id, t.kind, t.recorded_at, t.amount, t.to_account = 'points' as is_lot,
           case when t.to_account = 'points.expired' then x.related_entity_id end as lot_id,
           t.from_account = 'points' and t.to_account <> 'points.expired' as is_spent
      from ledger.transfers as t
      left join lateral (
           select e.related_entity_id from public.points_events as e
            where t.to_account = 'points.expired' and e.user_id = t.book_id and e.id = t.source_id limit 1) as x on true
     where t.book_id = any (p_user_ids) and 'points' in (t.from_account, t.to_account)
  ), taken as (
    select u.book_id, coalesce(a.held, 0) + coalesce((select sum(e.amount) from entry as e where e.book_id = u.book_id and e.is_spent), 0) as points
      from unnest(p_user_ids) as u(book_id)
      left join ledger.accounts as a on a.book_id = u.book_id and a.account = 'points'
  ), expired as (
    select e.book_id, e.lot_id, sum(e.amount) as points from entry as e where e.lot_id is not null group by e.book_id, e.lot_id
  ), lot as (
    select e.*, e.amount - coalesce(x.points, 0) as kept,
           sum(e.amount - coalesce(x.points, 0)) over (partition by e.book_id order by e.recorded_at, e.transfer_id) as running
      from entry as e
      left join expired as x on x.book_id = e.book_id and x.lot_id = e.transfer_id
     where e.is_lot
  )
  select l.book_id, l.transfer_id, l.kind, r.program, l.recorded_at, l.amount,
         greatest(0, least(l.kept, l.running - k.points))::bigint,
         l.recorded_at + make_interval(days => g.expires_after_days)
    from lot as l
    join taken as k on k.book_id = l.book_id
    left join public.points_rules as r on r.event_type = l.kind
    left join public.points_programs as g on g.program = r.program;
end
$$;

-- sql/20_points/expire_points.sql

-- Takes back the points whose time is up, of at most p_limit users; returns {"expired": users, "points": n}.
-- Each lot that ends is a points_expiry event of its own, which names the lot. After each look a user's row says until when
-- nothing of theirs expires, so upkeep comes back neither too early nor too late; a change of terms starts a walk through all.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   the users' points accounts, in order; then their cache rows.
-- Refuses: nothing.

create or replace function public.expire_points(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_days_min int := (select min(g.expires_after_days) from public.points_programs as g);
  v_walk internal.points_expiry_walks;
  v_users uuid[];
  v_seen int;
  v_points bigint;
begin
  if v_days_min is null then
    return '{"expired": 0, "points": 0}'::jsonb;
  end if;

  select w.* into v_walk from internal.points_expiry_walks as w for update skip locked;
  if v_walk.walk is not null then
    v_users := array(
      select c.user_id from public.user_points_cache as c where c.user_id > v_walk.done_until order by c.user_id limit p_limit);
    if cardinality(v_users) < p_limit then
      delete from internal.points_expiry_walks as w where w.walk = v_walk.walk;
    else
      update internal.points_expiry_walks as w set done_until = v_users[p_limit] where w.walk = v_walk.walk;
    end if;
  else
    v_users := array(
      select c.user_id from public.user_points_cache as c where c.lots_due_at <= v_now order by c.lots_due_at limit p_limit);
  end if;
  v_seen := cardinality(v_users);

  -- Who has spent meanwhile has done so before the lots are looked at.
  perform ledger.lock(v_users, 'points');

  with lot as materialized (
    select l.* from internal.earned_lots(v_users) as l where l.remaining > 0 and l.expires_at is not null
  ), ended as materialized (
    select l.*, internal.uuidv7() as expiry_id from lot as l where l.expires_at <= v_now order by l.user_id, l.earned_at
  ), moved as materialized (
    select m.transfer_id
      from internal.move_points(array(
             select row(n.user_id, n.expiry_id, -n.remaining, 0, 'points_expiry', v_now)::internal.points_move from ended as n)) as m
     where m.outcome = 'posted'
  ), recorded as (
    insert into public.points_events as e (
           user_id, id, event_type, event_time, points_delta, proof_type, validation_status, validated_at, validated_by,
           related_entity_type, related_entity_id, payload_hash, transfer_id, created_at, updated_at)
    select n.user_id, n.expiry_id, 'points_expiry', v_now, -n.remaining, 'automatic', 'validated', v_now, 'system',
           'points_event', n.event_id, internal.points_event_hash(n.user_id, 'points_expiry', v_now, null, 'points_event', n.event_id),
           n.expiry_id, v_now, v_now
      from ended as n
      join moved as m on m.transfer_id = n.expiry_id
    returning e.points_delta
  )
  select coalesce(-sum(r.points_delta), 0) into v_points from recorded as r;

  -- What is earned from now on keeps for the shortest time there is, or longer.
  update public.user_points_cache as c
     set lots_due_at = least(
           v_now + make_interval(days => v_days_min),
           (select min(l.expires_at) from internal.earned_lots(array[c.user_id]) as l where l.remaining > 0))
   where c.user_id = any (v_users);

  return jsonb_build_object('expired', v_seen, 'points', v_points);
end
$$;

-- sql/20_points/guard_points_event.sql

-- Keeps the history true, whoever writes it: an event keeps its user, its id and its type, a validated one its points, its
-- time and what it is about as well, an event moves only along the listed ways, and none is deleted. The clients' grants and
-- policies come before this; an operator's hand comes to this.
--
-- Refuses: event_frozen, invalid_transition.

create or replace function internal.guard_points_event()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    perform internal.refuse('event_frozen', format('event %s cannot be deleted', old.id));
  end if;
  if (old.user_id, old.id, old.event_type) is distinct from (new.user_id, new.id, new.event_type) then
    perform internal.refuse('event_frozen', format('event %s keeps its user, its id and its type', old.id));
  end if;
  if old.validation_status is distinct from new.validation_status
     and (old.validation_status, new.validation_status) not in (
       ('pending', 'validating'),     ('pending', 'pending_review'),    ('pending', 'validated'),     ('pending', 'rejected'),    ('pending', 'flagged'),
       ('validating', 'pending'),     ('validating', 'pending_review'), ('validating', 'validated'),  ('validating', 'rejected'),
       ('pending_review', 'pending'), ('pending_review', 'flagged'),    ('pending_review', 'validated'), ('pending_review', 'rejected'),
       ('flagged', 'pending_review'), ('flagged', 'validated'),         ('flagged', 'rejected')) then
    perform internal.refuse('invalid_transition', format('from %s to %s', old.validation_status, new.validation_status));
  end if;
  if old.validation_status = 'validated'
     and (old.event_time, old.points_delta, old.payload_hash, old.created_at, old.proof_type, old.related_entity_type, old.related_entity_id)
         is distinct from
         (new.event_time, new.points_delta, new.payload_hash, new.created_at, new.proof_type, new.related_entity_type, new.related_entity_id)
     or old.transfer_id is not null and old.transfer_id is distinct from new.transfer_id then
    perform internal.refuse('event_frozen', format('event %s is validated', old.id));
  end if;
  return new;
end
$$;

-- A pending event may go anywhere, so validation, which is hot, does not pay for this check.
create or replace trigger points_events_stay_true
before update on public.points_events
for each row
when (old.validation_status <> 'pending' or old.user_id <> new.user_id or old.id <> new.id or old.event_type <> new.event_type)
execute function internal.guard_points_event();

create or replace trigger points_events_stay
before delete on public.points_events
for each row execute function internal.guard_points_event();

create or replace trigger points_events_stay_whole
before truncate on public.points_events
for each statement execute function internal.append_only();

-- sql/20_points/import_points_events.sql

-- Brings in what happened before this book was kept: events at the time at which they count, validated, posted, and
-- recorded now. Takes up to 1,000, each by itself: what is refused is named and left out, the others come in.
-- p_source names where they come from. Each event: {line, user_id, event_type, event_time, points, key, occurrence}.
-- `key` is the source's own id of the event; without one, `occurrence` tells equal events of a user apart: 1, 2, …
-- Points may be nothing, which is kept as an event, or below zero.
-- The answer: {imported, points, known, refused: [{line, code, detail}]}, with the sum of the points that came in.
--
-- Replay:  an event that is there already is counted as known.
-- Locks:   the users' points accounts, then their cache rows, each in order; then the events it writes.
-- Refuses: the call: invalid_body. An event: invalid_body, nonce_reused, unknown_event_type, event_type_not_submittable,
--          event_in_future, insufficient_funds.

create or replace function public.import_points_events(p_source text, p_events jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_answer jsonb;
  v_raced boolean;
begin
  if p_source is null or p_source !~ '^[^[:cntrl:]]{1,100}$' then
    perform internal.refuse('invalid_body', 'source: must have 1 to 100 characters');
  end if;
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) > 1000 then
    perform internal.refuse('invalid_body', 'events: must be an array of at most 1000');
  end if;

  for v_try in 1 .. 5 loop
    begin
      perform ledger.lock(array(select distinct (e ->> 'user_id')::uuid from jsonb_array_elements(p_events) as e), 'points');

      with line as materialized (
        select l.*, encode(sha256(convert_to(jsonb_build_array('import', p_source, l.user_id, l.key,
                 case when l.key is null then jsonb_build_array(l.event_type, l.event_time, l.points, coalesce(l.occurrence, 1)) end
               )::text, 'UTF8')), 'hex') as payload_hash
          from rows from (jsonb_to_recordset(p_events) as (
                 line bigint, user_id uuid, event_type text, event_time timestamptz, points bigint, key text, occurrence int))
               with ordinality as l(line, user_id, event_type, event_time, points, key, occurrence, position)
      ), judged as materialized (
        select l.*,
               case
                 when num_nulls(l.line, l.user_id, l.event_type, l.event_time, l.points) > 0 or not isfinite(l.event_time)
                      or l.points not between -2147483647 and 2147483647 then 'invalid_body'
                 when e.id is not null and (e.event_type, e.event_time, e.points_delta)
                      is distinct from (l.event_type, l.event_time, l.points) then 'nonce_reused'
                 when e.id is not null then 'known'
                 when r.event_type is null then 'unknown_event_type'
                 -- The other types belong to something else, a coupon for one, which a line of history does not bring along.
                 when not r.client_submittable and r.event_type not in ('history_import', 'admin_award', 'admin_deduction')
                      then 'event_type_not_submittable'
                 when l.event_time > internal.clock() + interval '10 minutes' then 'event_in_future'
               end as verdict
          from line as l
          left join lateral (select x.id, x.event_type, x.event_time, x.points_delta from public.points_events as x
                              where x.user_id = l.user_id and x.payload_hash = l.payload_hash limit 1) as e on true
          left join public.points_rules as r on r.event_type = l.event_type
      ), paired as materialized (
        -- The first of those that are one event within this call speaks for the others.
        select j.*, first_value(j.position) over same as first_position,
               (j.event_type, j.event_time, j.points) is distinct from
               (first_value(j.event_type) over same, first_value(j.event_time) over same, first_value(j.points) over same) as differs
          from judged as j
        window same as (partition by j.user_id, j.payload_hash, j.verdict is null order by j.position)
      ), fresh as materialized (
        -- Earned before spent, so that the ledger, which takes moves in this order, sees what there is to spend.
        select o.*, internal.uuidv7() as id
          from (select p.* from paired as p
                 where p.verdict is null and p.position = p.first_position
                 order by p.points < 0, p.event_time, p.position) as o
      ), overdrawn as materialized (
        select d.event_id, d.available
          from internal.overdrawn_points(array(
                 select row(f.user_id, f.id, f.points, 0, f.event_type, f.event_time)::internal.points_move
                   from fresh as f
                  order by f.position)) as d
      ), decided as materialized (
        select f.*, d.event_id is not null as is_overdrawn, d.available from fresh as f left join overdrawn as d on d.event_id = f.id
      ), posted as materialized (
        select m.outcome
          from internal.move_points(array(
                 select row(d.user_id, d.id, d.points, 0, d.event_type, d.event_time)::internal.points_move
                   from decided as d
                  where not d.is_overdrawn
                  order by d.id)) as m
      ), recorded as (
        insert into public.points_events as e (
               user_id, id, event_type, event_time, points_delta, proof_type, proof_payload, validation_status,
               validated_at, validated_by, nonce, payload_hash, transfer_id)
        select d.user_id, d.id, d.event_type, d.event_time, d.points, 'automatic', jsonb_build_object('line', d.line),
               'validated', internal.clock(), 'import:' || p_source, d.key, d.payload_hash, case when d.points <> 0 then d.id end
          from decided as d
         where not d.is_overdrawn
      ), refused as (
        select d.line, 'insufficient_funds' as code, format('points: there were %s to take %s from', d.available, -d.points) as detail
          from decided as d
         where d.is_overdrawn
        union all
        select p.line, 'nonce_reused', format('key: %s came with another event before', p.key)
          from paired as p
         where p.verdict is null and p.differs
        union all
        -- What is the same event as one that was refused.
        select p.line, 'insufficient_funds', format('points: as for line %s', d.line)
          from paired as p
          join decided as d on d.position = p.first_position and d.is_overdrawn
         where p.verdict is null and p.position > p.first_position and not p.differs
        union all
        select p.line, p.verdict, case p.verdict
                 when 'invalid_body' then 'something is missing or out of range'
                 when 'nonce_reused' then format('key: %s came with another event before', p.key)
                 when 'event_in_future' then format('event_time: %s lies in the future', p.event_time)
                 else format('event_type: %s', p.event_type) end
          from paired as p
         where p.verdict <> 'known'
      ), come as (
        select count(*) as imported, coalesce(sum(d.points), 0) as points from decided as d where not d.is_overdrawn
      ), gone as (
        select count(*) as refused, coalesce(jsonb_agg(to_jsonb(r) order by r.line), '[]') as refusals from refused as r
      )
      select jsonb_build_object('imported', c.imported, 'points', c.points, 'known', jsonb_array_length(p_events) - c.imported - g.refused,
               'refused', g.refusals),
             exists (select from posted as m where m.outcome <> 'posted')
        into v_answer, v_raced
        from come as c, gone as g;
      if not v_raced then
        exit;
      end if;
      raise unique_violation using message = 'the accounts changed under the import';
    exception
      -- Users who have no account yet have no lock to wait at: two imports of one file meet only here, where the later
      -- starts again and finds what the earlier brought.
      when unique_violation then
        if v_try = 5 then
          raise;
        end if;
    end;
  end loop;
  return v_answer;
end
$$;

-- sql/20_points/move_points.sql

-- Moves points for a set of events and keeps user_points_cache equal to the ledger: the only way points move.
-- Returns what ledger.post says of each event that moves any; the transfer bears the event's id.
--
-- Replay:  an event whose transfer is in the book moves nothing again.
-- Locks:   the accounts, then the cache rows, each in order.
-- Refuses: insufficient_funds, as an outcome.

create or replace function internal.move_points(p_moves internal.points_move[])
returns setof ledger.posted
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  return query
  with posted as materialized (
    select o.*
      from ledger.post(array(
             select row(m.event_id, m.user_id,
                        case when m.points < 0 then 'points' else c.account end,
                        case when m.points < 0 then c.account else 'points' end,
                        abs(m.points), m.kind, 'points_event', m.event_id, m.effective_at)::ledger.posting
               from unnest(p_moves) with ordinality as m(user_id, event_id, points, pending, kind, effective_at, position)
              cross join lateral (
                    select case
                             when m.kind = 'points_expiry' then 'points.expired'
                             -- What was spent and is given back was never spent.
                             when m.points < 0 or m.kind = 'coupon_refund' then 'points.spent'
                             else 'points.issued' end as account) as c
              where m.points <> 0
              order by m.position)) as o
  ), counted as (
    -- Available is earned less spent, so one upsert serves both directions.
    insert into public.user_points_cache as c (
           user_id, available_points, pending_points, lifetime_earned, lifetime_spent, last_event_id, updated_at)
    select m.user_id, greatest(sum(m.points), 0), sum(m.pending), sum(greatest(m.points, 0)), sum(greatest(-m.points, 0)),
           (array_agg(m.event_id order by m.position desc))[1], v_now
      from unnest(p_moves) with ordinality as m(user_id, event_id, points, pending, kind, effective_at, position)
      left join posted as o on o.transfer_id = m.event_id
     where m.points = 0 or o.outcome = 'posted'
     group by m.user_id
     order by m.user_id
    on conflict (user_id) do update
       set available_points = c.available_points + excluded.lifetime_earned - excluded.lifetime_spent,
           pending_points   = c.pending_points + excluded.pending_points,
           lifetime_earned  = c.lifetime_earned + excluded.lifetime_earned,
           lifetime_spent   = c.lifetime_spent + excluded.lifetime_spent,
           last_event_id    = excluded.last_event_id,
           updated_at       = excluded.updated_at
  )
  select o.* from posted as o;
end
$$;

-- sql/20_points/overdrawn_points.sql

-- Which of these moves would take points that were not there: at the time the spending counts, or at any time after it.
-- A balance that is all right today is not enough; spending put into the past must leave what was spent since.
-- What is held is not there to be spent. Spending is judged in the order of its time; what is refused leaves its points
-- to what comes later.

create or replace function internal.overdrawn_points(p_moves internal.points_move[])
returns table (event_id uuid, available bigint)
language plpgsql volatile
set search_path = ''
as $$
declare
  v_user_id uuid;
  v_accepted bigint;
  v_spending record;
begin
  if not exists (select from unnest(p_moves) as m where m.points < 0) then
    return;
  end if;

  for v_spending in
    with move as (
      select m.*, bool_or(m.points < 0) over (partition by m.user_id) as user_spends
        from unnest(p_moves) with ordinality as m(user_id, event_id, points, pending, kind, effective_at, position)
    ), spender as materialized (
      select distinct m.user_id from move as m where m.user_spends
    ), entry as (
      select t.book_id as user_id, t.effective_at, case when t.to_account = 'points' then t.amount else -t.amount end as points,
             null::uuid as event_id, null::bigint as spent, null::bigint as position
        from ledger.transfers as t
        join spender as s on s.user_id = t.book_id
       where 'points' in (t.from_account, t.to_account)
      union all
      -- What is held is spoken for, and must be there in the end.
      select a.book_id, 'infinity', -a.held, null, null, null
        from ledger.accounts as a
        join spender as s on s.user_id = a.book_id
       where a.account = 'points' and a.held > 0
      union all
      -- What these moves spend does not count yet: the loop below decides that.
      select m.user_id, m.effective_at, greatest(m.points, 0), m.event_id, nullif(greatest(-m.points, 0), 0), m.position
        from move as m
       where m.user_spends
    ), path as (
      select e.*, sum(e.points) over (partition by e.user_id order by e.effective_at) as balance from entry as e
    ), ahead as (
      select p.*, min(p.balance) over (partition by p.user_id order by p.effective_at desc)::bigint as least from path as p
    )
    select a.user_id, a.event_id, a.spent, a.least
      from ahead as a
     where a.spent is not null
     order by a.user_id, a.effective_at, a.position
  loop
    if v_user_id is distinct from v_spending.user_id then
      v_user_id := v_spending.user_id;
      v_accepted := 0;
    end if;
    if v_spending.least - v_accepted >= v_spending.spent then
      v_accepted := v_accepted + v_spending.spent;
    else
      event_id := v_spending.event_id;
      available := greatest(v_spending.least - v_accepted, 0);
      return next;
    end if;
  end loop;
end
$$;

-- sql/20_points/points_awarded.sql

-- What each event of a set that is about to be validated is worth now: its points, and where its rule says so, multiplied
-- by the streak. A streak is days in a row, up to the event's own, each with a validated event of the same type about the
-- same thing; the events of the set count for one another. Fractions of a point are dropped.
-- It looks back a day at a time and only as far as the longest streak that pays, so what it costs is the streak's length.

create or replace function internal.points_awarded(p_events public.points_events[])
returns table (event_id uuid, streak_days int, points int)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_days_max int := (select max(m.days_min) from public.streak_multipliers as m);
begin
  return query
  with recursive event as materialized (
    select e.user_id, e.id, e.event_type, coalesce(e.related_entity_id, e.user_id) as entity_id, e.points_delta, g.time_zone,
           (e.event_time at time zone g.time_zone)::date as day,
           r.multiplied_by_streak and e.points_delta > 0 and v_days_max is not null as is_multiplied
      from unnest(p_events) as e
      join public.points_rules as r on r.event_type = e.event_type
      join public.points_programs as g on g.program = r.program
  ), beside as materialized (
    select distinct e.user_id, e.event_type, e.entity_id, e.day from event as e where e.is_multiplied
  ), walk as (
    select e.user_id, e.id, e.event_type, e.entity_id, e.time_zone, e.day, 1 as days from event as e where e.is_multiplied
    union all
    select w.user_id, w.id, w.event_type, w.entity_id, w.time_zone, w.day - 1, w.days + 1
      from walk as w
      left join beside as b
        on b.user_id = w.user_id and b.event_type = w.event_type and b.entity_id = w.entity_id and b.day = w.day - 1
     where w.days < v_days_max
       and (b.day is not null or (
           select true
             from public.points_events as o
            where o.user_id = w.user_id
              and o.event_time >= (w.day - 1)::timestamp at time zone w.time_zone
              and o.event_time < w.day::timestamp at time zone w.time_zone
              and o.event_type = w.event_type
              and coalesce(o.related_entity_id, o.user_id) = w.entity_id
              and o.validation_status = 'validated'
            limit 1))
  ), streak as (
    select w.id, max(w.days) as days from walk as w group by w.id
  )
  select e.id, s.days,
         floor(e.points_delta * coalesce(
           (select m.multiplier from public.streak_multipliers as m where m.days_min <= s.days order by m.days_min desc limit 1), 1))::int
    from event as e
    left join streak as s on s.id = e.id;
end
$$;

-- sql/20_points/points_balance.sql

-- What a user has: to spend, set aside, waiting for validation, and over time. Read from the ledger, not from its cache.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; a user without a row has nothing.

create or replace function public.points_balance(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return (
    select jsonb_build_object(
             'available_points', coalesce(a.balance - a.held, 0), 'held_points', coalesce(a.held, 0),
             'pending_points', coalesce(c.pending_points, 0),
             'lifetime_earned', coalesce(c.lifetime_earned, 0), 'lifetime_spent', coalesce(c.lifetime_spent, 0))
      from (values (p_user_id)) as u(user_id)
      left join ledger.accounts as a on a.book_id = u.user_id and a.account = 'points'
      left join public.user_points_cache as c on c.user_id = u.user_id);
end
$$;

-- sql/20_points/points_discrepancies.sql

-- Where the events, the ledger and the cache disagree: the points' own part of ledger.discrepancies.

create or replace view internal.points_discrepancies
with (security_invoker = true)
as
select 'I1' as invariant, e.user_id as book_id, 'event ' || e.id as subject,
       e.points_delta::text as expected, coalesce(t.amount::text, 'no transfer') as actual
  from public.points_events as e
  left join ledger.transfers as t on t.book_id = e.user_id and t.transfer_id = e.transfer_id
 where e.validation_status = 'validated' and e.points_delta <> 0
   and (t.transfer_id is null
        or e.points_delta <> case when t.to_account = 'points' then t.amount else -t.amount end)
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'a validated event', coalesce(e.validation_status, 'no event')
  from ledger.transfers as t
  left join public.points_events as e on e.user_id = t.book_id and e.id = t.source_id
 where t.source_type = 'points_event'
   and (e.validation_status is distinct from 'validated' or e.transfer_id is distinct from t.transfer_id)
union all
select 'I3', coalesce(c.user_id, a.book_id), 'available_points', coalesce(a.balance, 0)::text, coalesce(c.available_points, 0)::text
  from (select x.book_id, x.balance from ledger.accounts as x where x.account = 'points') as a
  full join public.user_points_cache as c on c.user_id = a.book_id
 where coalesce(a.balance, 0) <> coalesce(c.available_points, 0)
union all
select 'I3', coalesce(c.user_id, w.user_id), 'pending_points', coalesce(w.points, 0)::text, coalesce(c.pending_points, 0)::text
  from (select e.user_id, sum(e.points_delta) as points
          from public.points_events as e
         where e.validation_status in ('pending', 'pending_review', 'validating', 'flagged')
         group by e.user_id) as w
  full join public.user_points_cache as c on c.user_id = w.user_id
 where coalesce(w.points, 0) <> coalesce(c.pending_points, 0);

-- sql/20_points/points_event_hash.sql

-- SHA-256 over what makes two submissions the same: who, what, when, under which nonce, with which data. A retry may
-- come from another address and with a new attestation, so these do not count.
-- The text of a jsonb is canonical: keys in one order, white space in one form.

create or replace function internal.points_event_hash(
  p_user_id             uuid,
  p_event_type          text,
  p_event_time          timestamptz,
  p_nonce               text,
  p_related_entity_type text default null,
  p_related_entity_id   uuid default null,
  p_proof_payload       jsonb default null,
  p_device_id           text default null,
  p_device_info         jsonb default null,
  p_proof_type          text default null
)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return encode(sha256(convert_to(jsonb_build_array(
    p_user_id, p_event_type, (date_part('epoch', p_event_time) * 1000000)::bigint, p_nonce, p_related_entity_type,
    p_related_entity_id, p_proof_payload, p_device_id, p_device_info, p_proof_type)::text, 'UTF8')), 'hex');
end
$$;

-- sql/20_points/points_expiry_schedule.sql

-- What expires when, if nothing is spent: each user's lots that have an end, the soonest first for whoever orders by it.

create or replace view public.points_expiry_schedule
with (security_invoker = true)
as
select c.user_id, l.expires_at, l.remaining as points, l.program, l.event_id, l.event_type, l.earned_at
  from public.user_points_cache as c
 cross join lateral internal.earned_lots(array[c.user_id]) as l
 where l.remaining > 0 and l.expires_at is not null;

-- sql/20_points/points_limit_detail.sql

-- Says of the limits that a submission came up against the one that lasts longest, what it is and when there is room again,
-- in the one form that clients' headers are made of: '<policy>: <quota> in <window> s; again in <seconds> s'.
-- Going back from the newest event, the one that fills the quota has to grow older than the window.

create or replace function internal.points_limit_detail(p_user_id uuid, p_event_type text)
returns text
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_rule public.points_rules;
  v_detail text;
begin
  select p.* into v_rule from public.points_rules as p where p.event_type = p_event_type;

  select format('%s: %s in %s s; again in %s s', l.policy, l.quota, l.seconds, w.again) into v_detail
    from public.points_programs as g
   cross join lateral (values
           ('events_per_hour', g.events_per_hour_max, 3600, 1),
           ('events_per_day', g.events_per_day_max, 86400, 1),
           ('events_of_type_per_day', v_rule.daily_max, 86400, 1),
           ('points_per_hour', g.points_per_hour_max, 3600, v_rule.points),
           ('points_per_day', g.points_per_day_max, 86400, v_rule.points)) as l(policy, quota, seconds, needed)
   cross join lateral (
         select max(x.created_at) as filled_at
           from (select e.created_at,
                        sum(case
                              when l.policy not like 'points_%' then 1
                              when e.validation_status <> 'rejected' then e.points_delta
                              else 0 end) over (order by e.created_at desc, e.id desc) as used
                   from public.points_events as e
                   join public.points_rules as r on r.event_type = e.event_type and r.client_submittable and r.program = v_rule.program
                  where e.user_id = p_user_id
                    and e.id >= internal.uuidv7_floor(clock_timestamp() - interval '25 hours')
                    and e.created_at > v_now - make_interval(secs => l.seconds)
                    and e.proof_type <> 'automatic'
                    and (l.policy <> 'events_of_type_per_day' or e.event_type = p_event_type)) as x
          where x.used + l.needed > l.quota) as f
   cross join lateral (
         select greatest(1, ceil(l.seconds - extract(epoch from v_now - coalesce(f.filled_at, v_now))))::int as again) as w
   where g.program = v_rule.program and (f.filled_at is not null or l.needed > l.quota)
   order by w.again desc, l.policy
   limit 1;
  return v_detail;
end
$$;

-- sql/20_points/points_schedule.sql

-- What of a user's own points expires when, the soonest first: {"lots": [{expires_at, points}]}, one entry a moment.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; where nothing expires the list is empty.

create or replace function public.points_schedule(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return (
    select jsonb_build_object('lots', coalesce(jsonb_agg(jsonb_build_object('expires_at', d.expires_at, 'points', d.points) order by d.expires_at), '[]'))
      from (select l.expires_at, sum(l.remaining) as points
              from internal.earned_lots(array[p_user_id]) as l
             where l.remaining > 0 and l.expires_at is not null
             group by l.expires_at) as d);
end
$$;

-- sql/20_points/recheck_points_event.sql

-- Says of an event what its device's evidence is worth, now that it could be checked: p_status 'verified', 'failed' with a
-- reason, or 'unsupported'. An event that was decided meanwhile stays as it was decided.
--
-- Replay:  what was checked again is not waiting for it any more: nothing changes.
-- Locks:   the waiting check, then the event.
-- Refuses: nothing.

create or replace function public.recheck_points_event(p_user_id uuid, p_event_id uuid, p_status text, p_reason text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_claim internal.attestation_claim;
begin
  delete from public.attestation_rechecks as r where r.user_id = p_user_id and r.event_id = p_event_id;
  if not found then
    return jsonb_build_object('rechecked', false);
  end if;
  update public.points_events as e
     set attestation = p_status, updated_at = internal.clock()
   where e.user_id = p_user_id and e.id = p_event_id and e.attestation = 'unavailable';
  if p_status = 'failed' then
    v_claim.user_id := p_user_id;
    v_claim.purpose := 'submit';
    v_claim.evidence := row('failed', p_reason, null, 'android', null, null, null, null, null)::internal.attestation_evidence;
    perform internal.fail_attestation(v_claim, p_reason, p_event_id);
  end if;
  return jsonb_build_object('rechecked', true);
end
$$;

-- sql/20_points/refresh_user_points_cache.sql

-- Makes a user's cache row what the ledger says, and returns the points the user can spend.
-- Posts first what an administrator validated by hand and nothing has posted yet, as the runbook expects: what gives before
-- what takes. What takes more than there is stays unposted, with a warning, and `ledger.discrepancies` lists it until an
-- opposite event makes room: one mistake must not hold up the refresh of everybody.
--
-- Replay:  a second refresh finds nothing to post and writes the same row.
-- Locks:   the events it posts, the account, the cache row.
-- Refuses: nothing.

create or replace function public.refresh_user_points_cache(p_user_id uuid)
returns bigint
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_moves internal.points_move[];
  v_posted ledger.posted;
  v_available bigint;
begin
  perform internal.act_for(array[p_user_id]);

  with unposted as (
    select e.user_id, e.id, e.points_delta, e.event_type, e.event_time
      from public.points_events as e
     where e.user_id = p_user_id and e.validation_status = 'validated' and e.transfer_id is null and e.points_delta <> 0
     order by e.id
       for update
  )
  select array_agg(row(u.user_id, u.id, u.points_delta, 0, u.event_type, u.event_time)::internal.points_move
                   order by u.points_delta < 0, u.event_time, u.id)
    into v_moves
    from unposted as u;

  if v_moves is not null then
    for v_posted in select o.* from internal.move_points(v_moves) as o loop
      if v_posted.outcome = 'insufficient_funds' then
        raise warning 'event % takes more than the user has', v_posted.transfer_id using hint = 'Make room with an opposite event.';
      else
        update public.points_events as e set transfer_id = e.id where e.user_id = p_user_id and e.id = v_posted.transfer_id;
      end if;
    end loop;
  end if;

  perform ledger.lock(array[p_user_id], 'points');
  -- What others write about this user ends at this row. Only the statement after this one sees all that came before it.
  insert into public.user_points_cache as c (user_id) values (p_user_id)
  on conflict (user_id) do update set updated_at = excluded.updated_at;

  update public.user_points_cache as c
     set available_points = t.earned - t.spent, pending_points = p.pending,
         lifetime_earned = t.earned, lifetime_spent = t.spent, last_event_id = l.id
    from (select coalesce(sum(x.amount) filter (where x.to_account = 'points'), 0) as earned,
                 coalesce(sum(x.amount) filter (where x.from_account = 'points'), 0) as spent
            from ledger.transfers as x
           where x.book_id = p_user_id and 'points' in (x.from_account, x.to_account)) as t
   cross join (select coalesce(sum(e.points_delta), 0) as pending
                 from public.points_events as e
                where e.user_id = p_user_id and e.transfer_id is null
                  and e.validation_status in ('pending', 'validating', 'pending_review', 'flagged')) as p
    left join lateral (select e.id from public.points_events as e
                where e.user_id = p_user_id and e.transfer_id is not null order by e.id desc limit 1) as l on true
   where c.user_id = p_user_id
  returning c.available_points into v_available;
  return v_available;
end
$$;

-- sql/20_points/submit_points_event.sql

-- Records what a client says happened: submit_points_event_batch with one request, raising its refusal.
--
-- Replay:  the same payload under the same nonce is answered as the first time, with "replayed", for ever.
-- Locks:   the user against other submissions of theirs, then the rows it writes.
-- Refuses: attestation_failed, returned as {"refusal": …} because it is written down; nonce_reused, unknown_event_type, event_type_not_submittable, proof_type_not_accepted, event_in_future,
--          event_too_old, rate_limited.

create or replace function public.submit_points_event(
  p_user_id             uuid,
  p_event_type          text,
  p_event_time          timestamptz,
  p_nonce               text,
  p_related_entity_type text default null,
  p_related_entity_id   uuid default null,
  p_proof_payload       jsonb default null,
  p_attestation         jsonb default null,
  p_device_id           text default null,
  p_device_info         jsonb default null,
  p_proof_type          text default null,
  p_ip_address          inet default null,
  p_request_id          text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_outcome internal.outcome;
begin
  select o.position, o.answer, o.refusal into v_outcome
    from internal.submit_points_event_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'event_type', p_event_type, 'event_time', p_event_time, 'nonce', p_nonce,
           'related_entity_type', p_related_entity_type, 'related_entity_id', p_related_entity_id,
           'proof_payload', p_proof_payload, 'attestation', p_attestation, 'device_id', p_device_id,
           'device_info', p_device_info, 'proof_type', p_proof_type, 'ip_address', p_ip_address,
           'request_id', p_request_id))) as o;
  if v_outcome.refusal ->> 'code' = 'attestation_failed' then
    return jsonb_build_object('refusal', v_outcome.refusal);
  end if;
  return internal.single(v_outcome);
end
$$;

-- sql/20_points/submit_points_event_batch.sql

-- Records what clients say happened; awards nothing. Validation decides later and from the same row.
-- Each request is an internal.points_event_request.
--
-- Replay:  the same payload under the same nonce is answered as the first time, with "replayed", for ever.
-- Locks:   each user against other submissions of theirs, in order; challenges and device keys; then the rows it writes:
--          nonce, event, cache rows.
-- Refuses: attestation_failed, nonce_reused, unknown_event_type, event_type_not_submittable, proof_type_not_accepted, event_in_future,
--          event_too_old, rate_limited.
--
-- What is new is written without a look-up: the unique keys say whether it was. Only what was not written is looked at
-- afterwards: is it a replay, or what is wrong with it? It makes no difference then whether the first one came
-- long ago or won a race just now.
--
-- Limits are counted from the events themselves, so there is no counter that could drift, a refused request and a replay
-- use nothing up, and a changed limit holds at once. A user's own lock makes the count exact. The ids, which are ordered
-- by time, lead to the last day's events; the day of the server's clock is what counts.

create or replace function internal.submit_points_event_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_floor uuid := internal.uuidv7_floor(clock_timestamp() - interval '25 hours');
  v_outcome internal.outcome;
  v_left int[] := array[]::int[];
  v_failed int[] := array[]::int[];     -- whose device's evidence is refused, and why
  v_reasons text[] := array[]::text[];
  v_waiting uuid[] := array[]::uuid[];  -- whose evidence is checked again later
begin
  perform internal.act_for(array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r));
  perform pg_advisory_xact_lock(l.key)
     from (select hashtextextended(r ->> 'user_id', 20) as key from jsonb_array_elements(p_requests) as r order by 1) as l;

  -- Most requests bring no evidence of a device. A replay has used its own up already.
  if jsonb_path_exists(p_requests, '$[*].attestation.platform') then
    select coalesce(array_agg(s."position"), v_failed), coalesce(array_agg(s.reason), v_reasons) into v_failed, v_reasons
      from internal.settle_attestations(array(
             select row(r.ordinality, r.user_id, 'submit', r.request_id,
                        jsonb_populate_record(null::internal.attestation_evidence, r.attestation))::internal.attestation_claim
               from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
              cross join lateral (
                    select internal.points_event_hash(
                             r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
                             r.proof_payload, r.device_id, r.device_info, r.proof_type) as payload_hash offset 0) as h
              where r.attestation ? 'platform'
                and not exists (select from public.points_events as e where e.user_id = r.user_id and e.payload_hash = h.payload_hash))) as s;
  end if;

  for v_outcome in
    with kin as materialized (
      select p.program, array_agg(p.event_type) as event_types from public.points_rules as p where p.client_submittable group by p.program
    ), request as materialized (
      select r.*, p.points, internal.uuidv7() as id, internal.points_event_hash(
               r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
               r.proof_payload, r.device_id, r.device_info, r.proof_type) as payload_hash,
             g.events_per_hour_max, u.events_hour, u.hour_since,
             p.client_submittable
               and coalesce(r.proof_type, 'internal') = any (p.proof_types)
               and r.event_time between v_now - interval '7 days' and v_now + interval '10 minutes'
               and r.ordinality <> all (v_failed) as acceptable,
             (u.events_hour >= g.events_per_hour_max
              or u.events_day >= g.events_per_day_max
              or u.of_type_day >= p.daily_max
              or u.points_hour + p.points > g.points_per_hour_max
              or u.points_day + p.points > g.points_per_day_max) is true as exceeded
        from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
        left join public.points_rules as p on p.event_type = r.event_type
        left join public.points_programs as g on g.program = p.program
        left join kin as k on k.program = p.program
        left join lateral (
             select count(*) as events_day,
                    count(*) filter (where e.created_at > v_now - interval '1 hour') as events_hour,
                    min(e.created_at) filter (where e.created_at > v_now - interval '1 hour') as hour_since,
                    count(*) filter (where e.event_type = r.event_type) as of_type_day,
                    coalesce(sum(e.points_delta) filter (where e.validation_status <> 'rejected'), 0) as points_day,
                    coalesce(sum(e.points_delta) filter (
                      where e.validation_status <> 'rejected' and e.created_at > v_now - interval '1 hour'), 0) as points_hour
               from public.points_events as e
              where e.user_id = r.user_id and e.id >= v_floor and e.created_at > v_now - interval '1 day'
                and e.event_type = any (k.event_types) and e.proof_type <> 'automatic') as u on true
    ), claimed as (
      insert into public.used_nonces as n (user_id, nonce, event_type, payload_hash, created_at)
      select r.user_id, r.nonce, r.event_type, r.payload_hash, v_now from request as r where r.acceptable and not r.exceeded
      on conflict (user_id, nonce) do nothing
      returning n.user_id
    ), stored as (
      insert into public.points_events as e (
             user_id, id, event_type, event_time, points_delta, proof_type, proof_payload, related_entity_type, related_entity_id,
             nonce, payload_hash, device_id, device_info, ip_address, attestation, device_key, request_id, created_at,
             updated_at)
      select r.user_id, r.id, r.event_type, r.event_time, r.points, coalesce(r.proof_type, 'internal'), r.proof_payload,
             r.related_entity_type, r.related_entity_id, r.nonce, r.payload_hash, r.device_id, r.device_info, r.ip_address,
             r.attestation ->> 'status', r.attestation ->> 'key_id', r.request_id, v_now, v_now
        from request as r
        join claimed as c on c.user_id = r.user_id
      on conflict (user_id, payload_hash) do nothing
      returning e.user_id, e.id, e.points_delta
    ), counted as (
      insert into public.user_points_cache as c (user_id, pending_points, updated_at)
      select s.user_id, s.points_delta, v_now from stored as s order by s.user_id
      on conflict (user_id) do update
         set pending_points = c.pending_points + excluded.pending_points, updated_at = excluded.updated_at
    )
    select r.ordinality::int,
           case when s.id is not null then jsonb_build_object(
             'id', s.id, 'status', 'pending', 'event_type', r.event_type, 'event_time', r.event_time,
             'created_at', v_now, 'replayed', false, 'rate_limit', case when r.events_per_hour_max is not null then jsonb_build_object(
               'policy', 'events_per_hour', 'quota', r.events_per_hour_max, 'window_seconds', 3600,
               'remaining', r.events_per_hour_max - r.events_hour - 1,
               'reset_seconds', ceil(3600 - extract(epoch from v_now - coalesce(r.hour_since, v_now)))::int) end) end,
           null::jsonb
      from request as r
      left join stored as s on s.user_id = r.user_id
  loop
    if v_outcome.answer is null then
      v_left := v_left || v_outcome.position;
    else
      return next v_outcome;
      if p_requests -> (v_outcome.position - 1) -> 'attestation' @> '{"status": "unavailable"}' then
        v_waiting := v_waiting || (v_outcome.answer ->> 'id')::uuid;
      end if;
    end if;
  end loop;

  if cardinality(v_waiting) > 0 then
    insert into public.attestation_rechecks (user_id, event_id, token, request_hash, received_at, due_at)
    select e.user_id, e.id, r.attestation ->> 'token', r.attestation ->> 'request_hash', v_now, v_now + interval '10 seconds'
      from jsonb_populate_recordset(null::internal.points_event_request, p_requests) as r
     cross join lateral (
           select x.user_id, x.id from public.points_events as x
            where x.user_id = r.user_id and x.id = any (v_waiting)) as e
     where r.attestation ->> 'status' = 'unavailable';
  end if;

  if cardinality(v_left) > 0 then
    return query
      select r.ordinality::int,
             case when e.id is not null then jsonb_build_object(
               'id', e.id, 'status', 'pending', 'event_type', e.event_type, 'event_time', e.event_time,
               'created_at', e.created_at, 'replayed', true) end,
             case
               when e.id is not null then null
               when n.nonce is not null then
                 internal.refusal('nonce_reused', format('nonce: %s came with another payload before', r.nonce))
               when r.ordinality = any (v_failed) then
                 internal.refusal('attestation_failed', format('reason: %s', v_reasons[array_position(v_failed, r.ordinality::int)]))
               when p.event_type is null then
                 internal.refusal('unknown_event_type', format('event_type: %s', r.event_type))
               when not p.client_submittable then
                 internal.refusal('event_type_not_submittable', format('event_type: %s', r.event_type))
               when not coalesce(r.proof_type, 'internal') = any (p.proof_types) then
                 internal.refusal('proof_type_not_accepted', format('proof_type: %s takes %s', r.event_type, array_to_string(p.proof_types, ', ')))
               when r.event_time > v_now + interval '10 minutes' then
                 internal.refusal('event_in_future', format('event_time: %s, and the server''s clock says %s', r.event_time, v_now))
               when r.event_time < v_now - interval '7 days' then
                 internal.refusal('event_too_old', format('event_time: %s is more than 7 days before %s', r.event_time, v_now))
               else
                 internal.refusal('rate_limited', internal.points_limit_detail(r.user_id, r.event_type))
             end
        from jsonb_populate_recordset(null::internal.points_event_request, p_requests) with ordinality as r
        join unnest(v_left) as x(position) on x.position = r.ordinality
        left join public.points_rules as p on p.event_type = r.event_type
       -- Lateral, so that each look-up goes by its own key and never through all rows of the call's subjects; and the
       -- hash by itself, because a condition that calls a function is no index condition under row-level security.
       cross join lateral (
             select internal.points_event_hash(
                      r.user_id, r.event_type, r.event_time, r.nonce, r.related_entity_type, r.related_entity_id,
                      r.proof_payload, r.device_id, r.device_info, r.proof_type) as payload_hash offset 0) as h
        left join lateral (
             select x.nonce from public.used_nonces as x where x.user_id = r.user_id and x.nonce = r.nonce limit 1) as n on true
        left join lateral (
             select x.* from public.points_events as x
              where x.user_id = r.user_id and x.payload_hash = h.payload_hash limit 1) as e on true;
  end if;

  if exists (select from internal.workers as w where w.asleep) then
    perform pg_notify('points_events', '');
  end if;
end
$$;

-- sql/20_points/walk_points_expiry.sql

-- Whoever changes for how long points keep makes upkeep look at every user again, some at a time.

create or replace function internal.walk_points_expiry()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into internal.points_expiry_walks as w (walk) values (1)
  on conflict (walk) do update set done_until = excluded.done_until;
  return null;
end
$$;

create or replace trigger points_programs_change_what_expires
after insert or update of expires_after_days on public.points_programs
for each row execute function internal.walk_points_expiry();

create or replace trigger points_rules_change_what_expires
after update of program on public.points_rules
for each row execute function internal.walk_points_expiry();

-- sql/30_coupons/00_tables.sql

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

-- sql/30_coupons/apply_coupon_refund.sql

-- What a refund does to its coupon, however it comes: a procedure's, or the row that an operator's runbook inserts. The
-- points go back when the event is posted; here the coupon is ended, bears the event that gave them back, and was never
-- sold. The coupon's lock lets one refund in, and the next finds it there.
--
-- Locks:   the coupon, then its template's stock.
-- Refuses: coupon_not_found, coupon_refunded, coupon_used, invalid_points, invalid_transition.

create or replace function internal.apply_coupon_refund()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_coupon public.coupons;
  v_ended text;  -- what becomes of a coupon that could still be used
begin
  select c.* into v_coupon
    from public.coupons as c
   where c.coupon_id = new.related_entity_id and c.issued_to = new.user_id and new.related_entity_type = 'coupon'
     for update;
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('related_entity_id: %s is no coupon of %s', new.related_entity_id, new.user_id));
  elsif v_coupon.refunded_at is not null then
    perform internal.refuse('coupon_refunded', format('coupon_id: %s, by event %s', v_coupon.coupon_id, v_coupon.refund_points_event_id));
  elsif v_coupon.status = 'redeemed' then
    perform internal.refuse('coupon_used', format('coupon_id: %s, at %s', v_coupon.coupon_id, v_coupon.redeemed_at));
  elsif new.points_delta <> v_coupon.issued_points_cost then
    perform internal.refuse('invalid_points', format('points_delta: %s, but the coupon cost %s', new.points_delta, v_coupon.issued_points_cost));
  elsif new.validation_status <> 'validated' then
    perform internal.refuse('invalid_transition', format('validation_status: a refund begins as validated, not as %s', new.validation_status));
  end if;

  if v_coupon.status in ('issued', 'held') then
    v_ended := case when v_coupon.expires_at <= v_now then 'expired' else 'revoked' end;
  end if;
  update public.coupons as c
     set status = coalesce(v_ended, c.status), refunded_at = v_now, refund_points_event_id = new.id, updated_at = v_now,
         request_id = coalesce(new.request_id, c.request_id),
         revoked_by = case when v_ended = 'revoked' then coalesce(new.validated_by, session_user) else c.revoked_by end,
         revocation_reason = case when v_ended = 'revoked' then new.validation_notes else c.revocation_reason end
   where c.coupon_id = v_coupon.coupon_id;

  update public.coupon_stock as s
     set issued = s.issued - 1, points = s.points - v_coupon.issued_points_cost
   where s.template_id = v_coupon.template_id;

  perform internal.audit(
    coalesce(new.validated_by, session_user), 'coupon.refunded', 'coupon', v_coupon.coupon_id::text, new.validation_notes,
    jsonb_build_object('status', v_coupon.status, 'refunded_at', null),
    jsonb_build_object('status', coalesce(v_ended, v_coupon.status), 'refunded_at', v_now, 'points_event_id', new.id, 'points', new.points_delta),
    new.request_id);
  return null;
end
$$;

-- After the insert, so that a row that does not come in refunds nothing.
create or replace trigger coupon_refunds_are_applied
after insert on public.points_events
for each row
when (new.event_type = 'coupon_refund')
execute function internal.apply_coupon_refund();

-- sql/30_coupons/cleanup_coupon_attempts.sql

-- Removes the counts of wrong codes whose time is over, oldest first, at most p_limit of them; returns {"removed": n}.
--
-- Replay:  a count that is gone is not there; a second run finds others or none.
-- Locks:   the counts, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.cleanup_coupon_attempts(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_over timestamptz := internal.clock() - make_interval(secs => coalesce((select max(t.window_seconds) from public.coupon_throttles as t), 0));
  v_removed int;
begin
  with due as materialized (
    select a.scope, a.subject
      from public.coupon_attempts as a
     where a.window_started_at <= v_over
     order by a.window_started_at
     limit p_limit
       for update skip locked
  )
  delete from public.coupon_attempts as a
   using due as d
   where a.scope = d.scope and a.subject = d.subject;
  get diagnostics v_removed = row_count;
  return jsonb_build_object('removed', v_removed);
end
$$;

-- sql/30_coupons/consume_coupon.sql

-- Uses a coupon up, for whoever shows its code at its partner's till: a member of the partner, or the service.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  the same caller under the same key gets the first answer again, with "replayed".
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the coupon.
-- Refuses: rate_limited, forbidden (its owner), coupon_held (by the same caller under another key), coupon_not_valid. The first and the
--          last are returned as {"refusal": …}, because they are remembered.

create or replace function public.consume_coupon(
  p_user_id          uuid,
  p_code_hashes      text[],
  p_idempotency_key  text,
  p_redemption_proof jsonb default null,
  p_ip_address       inet default null,
  p_device_id        text default null,
  p_request_id       text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_refusal jsonb := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  v_coupon internal.shown_coupon;
  v_replayed boolean;
begin
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, true);
  v_replayed := v_coupon.status = 'redeemed' and v_coupon.redeemed_by = v_coupon.caller and v_coupon.redemption_key = p_idempotency_key;
  if v_coupon.standing = 'owner' then
    perform internal.refuse('forbidden', 'A coupon is consumed at its partner''s till.');
  elsif v_coupon.standing = 'partner' and v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller
        and v_coupon.hold_key is distinct from p_idempotency_key then
    perform internal.refuse('coupon_held', format('idempotency_key: it is held until %s under another one', v_coupon.held_until));
  elsif v_coupon.standing = 'partner' and (v_coupon.status = 'issued' or v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller) then
    v_coupon.redeemed_at := v_now;
    v_coupon.redeemed_by := v_coupon.caller;
    v_coupon.redemption_terms := jsonb_build_object(
      'template_name', v_coupon.template_name, 'coupon_value_type', v_coupon.coupon_value_type, 'coupon_value', v_coupon.coupon_value);
    update public.coupons as c
       set status = 'redeemed', redeemed_at = v_now, redeemed_by = v_coupon.caller, redemption_key = p_idempotency_key,
           redemption_proof = p_redemption_proof, redemption_terms = v_coupon.redemption_terms,
           request_id = p_request_id, updated_at = v_now
     where c.coupon_id = v_coupon.coupon_id;
  elsif v_coupon.standing is distinct from 'partner' or v_replayed is not true then
    return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
  end if;

  return jsonb_build_object(
    'coupon_id', v_coupon.coupon_id, 'status', 'redeemed', 'redeemed_at', v_coupon.redeemed_at, 'redeemed_by', v_coupon.redeemed_by)
    || v_coupon.redemption_terms || jsonb_build_object('replayed', v_replayed);
end
$$;

-- sql/30_coupons/count_coupon_stock.sql

-- Begins to count what is sold of a template when it gets its first limit or budget, and remembers what was sold whenever
-- one of them changes. From then on whoever sells or refunds keeps the count.
--
-- Sales read the limit under the lock of the count's row, so a change of the limit waits for those that are under way. Where
-- there is no row yet, it is the table's lock that every sale takes which waits for them, and holds up the next ones for
-- as long as the coupons are counted and the transaction lasts.

create or replace function internal.count_coupon_stock()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from public.coupon_stock as s where s.template_id = new.template_id) then
    update public.coupon_stock as s
       set issued_before = s.issued, points_before = s.points
     where s.template_id = new.template_id;
  elsif tg_op = 'INSERT' then
    insert into public.coupon_stock (template_id) values (new.template_id);
  else
    lock table public.coupon_stock in exclusive mode;
    insert into public.coupon_stock (template_id, issued, points, issued_before, points_before)
    select new.template_id, n.issued, n.points, n.issued, n.points
      from (select count(*) as issued, coalesce(sum(c.issued_points_cost), 0) as points
              from public.coupons as c
             where c.template_id = new.template_id and c.refunded_at is null) as n;
  end if;
  return null;
end
$$;

create or replace trigger coupon_templates_are_counted
after insert or update of max_redemptions, budget_points on public.coupon_templates
for each row
when (new.max_redemptions is not null or new.budget_points is not null)
execute function internal.count_coupon_stock();

-- sql/30_coupons/coupon_code_failed.sql

-- Counts a wrong code on whoever showed it, and is the answer to it: the same for a code that never was, one that was used,
-- expired, revoked or is held by another, and one of another partner.
--
-- Locks:   the counts, under the advisory locks of internal.throttle_coupon_codes.
-- Refuses: coupon_not_valid, as data: a refusal that is raised would take the count back with it.

create or replace function internal.coupon_code_failed(p_user_id uuid, p_ip_address inet, p_device_id text)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
begin
  insert into public.coupon_attempts as a (scope, subject, window_started_at, failures)
  select g.scope, g.subject, v_now, 1
    from internal.coupon_guessers(p_user_id, p_ip_address, p_device_id) as g
    join public.coupon_throttles as t on t.scope = g.scope
   order by g.scope
  on conflict (scope, subject) do update
     set (window_started_at, failures) = (
         select case when w.is_over then excluded.window_started_at else a.window_started_at end,
                case when w.is_over then 1 else a.failures + 1 end
           from (select a.window_started_at + make_interval(secs => t.window_seconds) <= v_now as is_over
                   from public.coupon_throttles as t
                  where t.scope = a.scope) as w);

  return jsonb_build_object('refusal', internal.refusal('coupon_not_valid'));
end
$$;

-- sql/30_coupons/coupon_discrepancies.sql

-- Where coupons break their limits, lack their payment or their refund, or are counted wrongly: the coupons' own part of
-- ledger.discrepancies.

create or replace view internal.coupon_discrepancies
with (security_invoker = true)
as
select 'I6' as invariant, null::uuid as book_id, 'code hash ' || c.code_hash as subject, '1 coupon' as expected, count(*) || ' coupons' as actual
  from public.coupons as c
 group by c.code_hash
having count(*) > 1
union all
-- A limit that is lowered does not condemn what was sold before. A refunded coupon was never sold.
select 'I6', c.issued_to, 'coupons of template ' || c.template_id, 'at most ' || t.max_redemptions_per_user, count(*)::text
  from public.coupons as c
  join public.coupon_templates as t on t.template_id = c.template_id
 where c.refunded_at is null
 group by c.issued_to, c.template_id, t.max_redemptions_per_user, t.updated_at
having count(*) > t.max_redemptions_per_user and max(c.issued_at) > t.updated_at
union all
select 'I6', null, 'stock of template ' || coalesce(s.template_id, t.template_id),
       format('%s coupons for %s points', coalesce(n.issued, 0), coalesce(n.points, 0)),
       case when s.template_id is null then 'not counted' else format('%s coupons for %s points', s.issued, s.points) end
  from public.coupon_stock as s
  full join (select x.template_id from public.coupon_templates as x
              where x.max_redemptions is not null or x.budget_points is not null) as t on t.template_id = s.template_id
  left join (select c.template_id, count(*) as issued, sum(c.issued_points_cost) as points
               from public.coupons as c
              where c.refunded_at is null
              group by c.template_id) as n on n.template_id = coalesce(s.template_id, t.template_id)
 where (s.issued, s.points) is distinct from (coalesce(n.issued, 0), coalesce(n.points, 0))
union all
select 'I6', null, 'stock of template ' || t.template_id,
       concat_ws(', ', 'at most ' || t.max_redemptions || ' coupons', 'for ' || t.budget_points || ' points'),
       format('%s coupons for %s points', s.issued, s.points)
  from public.coupon_stock as s
  join public.coupon_templates as t on t.template_id = s.template_id
 where s.issued > greatest(t.max_redemptions, s.issued_before) and t.max_redemptions is not null
    or s.points > greatest(t.budget_points, s.points_before) and t.budget_points is not null
union all
-- A coupon belongs to whoever paid for it, and what was paid is its price.
select 'I1', c.issued_to, 'coupon ' || c.coupon_id, (-c.issued_points_cost)::text, coalesce(e.points_delta::text, 'no event')
  from public.coupons as c
  left join public.points_events as e on e.user_id = c.issued_to and e.id = c.points_event_id and e.event_type = 'redeem_coupon'
 where e.points_delta is distinct from -c.issued_points_cost or e.related_entity_id is distinct from c.coupon_id
union all
select 'I2', e.user_id, 'redemption ' || e.id, 'a coupon', 'no coupon'
  from public.points_events as e
  left join public.coupons as c on c.coupon_id = e.related_entity_id and c.points_event_id = e.id
 where e.event_type = 'redeem_coupon' and c.coupon_id is null
union all
-- A refunded coupon names the event that gave its price back, and can be used no more.
select 'I1', c.issued_to, 'refund of coupon ' || c.coupon_id, c.issued_points_cost::text, coalesce(e.points_delta::text, 'no event')
  from public.coupons as c
  left join public.points_events as e on e.user_id = c.issued_to and e.id = c.refund_points_event_id and e.event_type = 'coupon_refund'
                                     and e.related_entity_id = c.coupon_id and e.validation_status = 'validated'
 where (c.refunded_at is not null or c.refund_points_event_id is not null)
   and (e.points_delta is distinct from c.issued_points_cost or c.refunded_at is null)
union all
-- Every refund is the one that its coupon names; so a second one is found here.
select 'I2', e.user_id, 'refund ' || e.id, 'its coupon''s only refund', coalesce('coupon names ' || c.refund_points_event_id, 'no coupon names it')
  from public.points_events as e
  left join public.coupons as c on c.coupon_id = e.related_entity_id and c.issued_to = e.user_id
 where e.event_type = 'coupon_refund' and c.refund_points_event_id is distinct from e.id
union all
select 'I6', c.issued_to, 'coupon ' || c.coupon_id,
       case when c.refunded_at is not null then 'ended by its refund' else 'redeemed when it was used' end,
       c.status || coalesce(' at ' || c.redeemed_at, '')
  from public.coupons as c
 where c.refunded_at is not null and c.status not in ('expired', 'revoked')
    or (c.status = 'redeemed') <> (c.redeemed_at is not null);

-- sql/30_coupons/coupon_guessers.sql

-- On whom a wrong code is counted: the user, the device and the address it came from, as far as they are known. Of an IPv6
-- address the network counts, because a guesser has a whole one to himself.

create or replace function internal.coupon_guessers(p_user_id uuid, p_ip_address inet, p_device_id text)
returns table (scope text, subject text)
language plpgsql immutable
set search_path = ''
as $$
begin
  return query
    select g.scope, g.subject
      from (values ('address', case family(p_ip_address) when 6 then network(set_masklen(p_ip_address, 64))::text else host(p_ip_address) end),
                   ('device', left(p_device_id, 200)),
                   ('user', p_user_id::text)) as g(scope, subject)
     where g.subject is not null;
end
$$;

-- sql/30_coupons/coupon_guessing.sql

-- Who is guessing codes: those that are over half of what they may get wrong, now.

create or replace view internal.coupon_guessing
with (security_invoker = true)
as
select a.scope, a.subject, a.failures, t.failures_max, a.failures >= t.failures_max as is_refused, a.window_started_at,
       a.window_started_at + make_interval(secs => t.window_seconds) as window_ends_at
  from public.coupon_attempts as a
  join public.coupon_throttles as t on t.scope = a.scope
 where a.failures * 2 > t.failures_max and a.window_started_at + make_interval(secs => t.window_seconds) > internal.clock();

-- sql/30_coupons/forget_sealed_codes.sql

-- Forgets the copies of coupon codes that no replay shows any more, a quarter of an hour after the first answer: oldest first, at most
-- p_limit of them; returns {"forgotten": n}. The nonces stay.
--
-- Replay:  a copy that is gone is not there; a second run finds others or none.
-- Locks:   the nonces, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.forget_sealed_codes(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_forgotten int;
begin
  with due as materialized (
    select n.user_id, n.nonce
      from public.used_nonces as n
     where n.sealed is not null and n.created_at <= internal.clock() - interval '15 minutes'
     order by n.created_at
     limit p_limit
       for update skip locked
  )
  update public.used_nonces as n
     set sealed = null
    from due as d
   where n.user_id = d.user_id and n.nonce = d.nonce;
  get diagnostics v_forgotten = row_count;
  return jsonb_build_object('forgotten', v_forgotten);
end
$$;

-- sql/30_coupons/guard_coupon.sql

-- Keeps a coupon's life true, whoever writes it: its status moves only along the listed ways, and nothing leaves redeemed or
-- revoked. The mark of a refund stays, so that there is never a second one. Fills in what a hand leaves out, and writes every
-- revocation down.
--
-- Refuses: coupon_refunded, invalid_transition.

create or replace function internal.guard_coupon()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if old.refunded_at is not null and (old.refunded_at, old.refund_points_event_id) is distinct from (new.refunded_at, new.refund_points_event_id) then
    perform internal.refuse('coupon_refunded', format('coupon_id: %s, by event %s', old.coupon_id, old.refund_points_event_id));
  end if;
  if old.status = new.status then
    return new;
  end if;
  if (old.status, new.status) not in (
       ('issued', 'held'), ('issued', 'redeemed'), ('issued', 'expired'), ('issued', 'revoked'),
       ('held', 'issued'), ('held', 'redeemed'),   ('held', 'expired'),   ('held', 'revoked'),
       ('expired', 'revoked')) then
    perform internal.refuse('invalid_transition', format('coupon %s, from %s to %s', old.coupon_id, old.status, new.status));
  end if;
  if new.status <> 'held' then
    new.held_until := null;
  end if;
  if new.status = 'redeemed' then
    new.redeemed_at := coalesce(new.redeemed_at, internal.clock());
  elsif new.status = 'revoked' then
    new.revoked_at := coalesce(new.revoked_at, internal.clock());
    new.revoked_by := coalesce(new.revoked_by, nullif(current_setting('tallybook.actor', true), ''), session_user);
    new.revocation_reason := coalesce(new.revocation_reason, nullif(current_setting('tallybook.reason', true), ''));
    perform internal.audit(
      new.revoked_by, 'coupon.revoked', 'coupon', new.coupon_id::text, new.revocation_reason,
      jsonb_build_object('status', old.status, 'held_by', case when old.status = 'held' then old.held_by end),
      jsonb_build_object('status', new.status, 'revoked_at', new.revoked_at),
      case when new.request_id is distinct from old.request_id then new.request_id end);
  end if;
  return new;
end
$$;

create or replace trigger coupons_live_as_listed
before update on public.coupons
for each row
when (old.status is distinct from new.status or old.refunded_at is not null)
execute function internal.guard_coupon();

-- sql/30_coupons/hold_coupon.sql

-- Keeps a coupon for one purchase at its partner's till, so that nobody else consumes it meanwhile. A hold ends by itself, at the latest
-- with the coupon; whoever holds it consumes or releases it under the same key.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  the same caller under the same key gets the first answer again while the hold lasts, with "replayed".
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the coupon.
-- Refuses: invalid_body, rate_limited, forbidden (its owner), coupon_held (by the same caller under another key), coupon_not_valid. The
--          second and the last are returned as {"refusal": …}, because they are remembered.

create or replace function public.hold_coupon(
  p_user_id         uuid,
  p_code_hashes     text[],
  p_idempotency_key text,
  p_hold_seconds    int default 600,
  p_ip_address      inet default null,
  p_device_id       text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_refusal jsonb;
  v_coupon internal.shown_coupon;
  v_replayed boolean;
begin
  if p_hold_seconds is null or p_hold_seconds not between 1 and 86400 then
    perform internal.refuse('invalid_body', 'hold_seconds: must lie between 1 and 86400');
  end if;
  v_refusal := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, true);
  v_replayed := v_coupon.status = 'held';
  if v_coupon.standing = 'owner' then
    perform internal.refuse('forbidden', 'A coupon is held at its partner''s till.');
  elsif v_coupon.standing = 'partner' and v_coupon.status = 'issued' then
    v_coupon.held_until := least(v_now + make_interval(secs => p_hold_seconds), v_coupon.expires_at);
    update public.coupons as c
       set status = 'held', held_until = v_coupon.held_until, held_by = v_coupon.caller, hold_key = p_idempotency_key,
           request_id = p_request_id, updated_at = v_now
     where c.coupon_id = v_coupon.coupon_id;
  elsif v_coupon.standing is distinct from 'partner' or v_coupon.status <> 'held' or v_coupon.held_by <> v_coupon.caller then
    return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
  elsif v_coupon.hold_key is distinct from p_idempotency_key then
    perform internal.refuse('coupon_held', format('idempotency_key: it is held until %s under another one', v_coupon.held_until));
  end if;

  return jsonb_build_object(
    'coupon_id', v_coupon.coupon_id, 'status', 'held', 'held_until', v_coupon.held_until, 'replayed', v_replayed);
end
$$;

-- sql/30_coupons/mark_expired_coupons.sql

-- Writes down what time has done: coupons past their day have expired, and holds past theirs are let go. Oldest first, at most
-- p_limit of each; returns {"expired": n, "released": n}. Whoever reads a coupon goes by the time and not by this.
--
-- Replay:  what is done is not there; a second run finds others or none.
-- Locks:   the coupons, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.mark_expired_coupons(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_expired int;
  v_released int;
begin
  with due as materialized (
    select c.coupon_id
      from public.coupons as c
     where c.status in ('issued', 'held') and c.expires_at <= v_now
     order by c.expires_at
     limit p_limit
       for update skip locked
  )
  update public.coupons as c
     set status = 'expired', updated_at = v_now
    from due as d
   where c.coupon_id = d.coupon_id;
  get diagnostics v_expired = row_count;

  with due as materialized (
    select c.coupon_id
      from public.coupons as c
     where c.status = 'held' and c.held_until <= v_now and c.expires_at > v_now
     order by c.held_until
     limit p_limit
       for update skip locked
  )
  update public.coupons as c
     set status = 'issued', held_by = null, hold_key = null, updated_at = v_now
    from due as d
   where c.coupon_id = d.coupon_id;
  get diagnostics v_released = row_count;

  return jsonb_build_object('expired', v_expired, 'released', v_released);
end
$$;

-- sql/30_coupons/redeem_coupon.sql

-- Buys one coupon with points: redeem_coupon_batch with one request, raising its refusal.
--
-- Replay:  the same template under the same key is answered as the first time, with "replayed".
-- Locks:   the stock of a template that is counted, then the user's points account.
-- Refuses: nonce_reused, template_not_found, template_exhausted, insufficient_points, coupon_limit_reached.

create or replace function public.redeem_coupon(
  p_user_id         uuid,
  p_template_id     uuid,
  p_idempotency_key text,
  p_code_hash       text,
  p_key_id          text,
  p_sealed_code     text,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_outcome internal.outcome;
begin
  select o.position, o.answer, o.refusal into v_outcome
    from internal.redeem_coupon_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'template_id', p_template_id, 'idempotency_key', p_idempotency_key,
           'code_hash', p_code_hash, 'key_id', p_key_id, 'sealed_code', p_sealed_code, 'request_id', p_request_id))) as o;
  return internal.single(v_outcome);
end
$$;

-- sql/30_coupons/redeem_coupon_batch.sql

-- Buys coupons with points: points leave the ledger, the coupon is issued, and the event that says so is written, together.
-- Each request is an internal.coupon_request. The code itself never comes here; sealed_code is its copy that only the
-- function can open, and it comes back with every replay for a quarter of an hour.
--
-- Replay:  the same template under the same key is answered as the first time, with "replayed".
-- Locks:   the stock of the templates that are counted, in order; then the users' points accounts, in order. Under these
--          locks everything is decided.
-- Refuses: nonce_reused, template_not_found, template_exhausted, insufficient_points, coupon_limit_reached.
--
-- What can be bought is bought without looking for an earlier request: the unique keys say whether there was one. Only
-- what was not bought is looked at afterwards. Look-ups are lateral or scalar, so that each goes by its own key and
-- never through all rows of the call's subjects.
-- What is limited goes to those who come first. No place is taken by who cannot pay or may not have another one, nor by a
-- replay, which here alone is looked for first.

create or replace function internal.redeem_coupon_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_counted uuid[];  -- the templates that are counted, and what is sold of each
  v_issued bigint[];
  v_points bigint[];
  v_books uuid[];
  v_available bigint[];
  v_outcome internal.outcome;
  v_bought int[] := array[]::int[];
  v_coupons uuid[];
  v_raced boolean;
begin
  perform internal.act_for(v_users);

  loop
    -- The limits are read after this lock and not with it: whoever changes them waits for it, and it for them.
    select array_agg(l.template_id), array_agg(l.issued), array_agg(l.points)
      into v_counted, v_issued, v_points
      from (select s.template_id, s.issued, s.points
              from public.coupon_stock as s
             where s.template_id = any (array(select (r ->> 'template_id')::uuid from jsonb_array_elements(p_requests) as r))
             order by s.template_id
               for update) as l;

    select array_agg(l.book_id), array_agg(l.available) into v_books, v_available from ledger.lock(v_users, 'points') as l;

    v_coupons := array[]::uuid[];
    v_raced := false;
    for v_outcome in
      with request as materialized (
        select r.*, internal.uuidv7() as coupon_id, internal.uuidv7() as event_id,
               t.points_cost, v_now + make_interval(days => t.expires_after_days) as expires_at,
               internal.points_event_hash(r.user_id, 'redeem_coupon', null, r.idempotency_key, 'template', r.template_id) as payload_hash,
               -- How many more there are, null for no end, and who gets them.
               least(t.max_redemptions - s.issued, (t.budget_points - s.points) / t.points_cost) as room,
               row_number() over (partition by r.template_id order by r.ordinality) as place
          from jsonb_populate_recordset(null::internal.coupon_request, p_requests) with ordinality as r
          join public.coupon_templates as t on t.template_id = r.template_id and t.is_active
           and (t.valid_from is null or t.valid_from <= v_now) and (t.valid_until is null or t.valid_until > v_now)
          join unnest(v_books, v_available) as a(book_id, available) on a.book_id = r.user_id and a.available >= t.points_cost
          left join unnest(v_counted, v_issued, v_points) as s(template_id, issued, points) on s.template_id = r.template_id
         where not r.ordinality::int = any (v_bought)
           and (t.max_redemptions_per_user is null
            or t.max_redemptions_per_user > (
               select count(*) from public.coupons as c
                where c.issued_to = r.user_id and c.template_id = r.template_id and c.refunded_at is null))
           and case
                 -- A limit that came between the lock and here belongs to an offer that this call came too early for.
                 when s.template_id is null then t.max_redemptions is null and t.budget_points is null
                 else (select n.nonce from public.used_nonces as n where n.user_id = r.user_id and n.nonce = r.idempotency_key) is null
                  and (select e.id from public.points_events as e
                        where e.user_id = r.user_id and e.payload_hash = internal.points_event_hash(
                              r.user_id, 'redeem_coupon', null, r.idempotency_key, 'template', r.template_id)) is null
               end
      ), claimed as (
        insert into public.used_nonces as n (user_id, nonce, event_type, payload_hash, sealed, created_at)
        select r.user_id, r.idempotency_key, 'redeem_coupon', r.payload_hash, r.sealed_code, v_now from request as r
         where (r.place <= r.room) is not false
           and (select e.id from public.points_events as e
                 where e.user_id = r.user_id and e.payload_hash = r.payload_hash) is null
        on conflict (user_id, nonce) do nothing
        returning n.user_id
      ), posted as materialized (
        select o.transfer_id, o.from_available
          from internal.move_points(array(
                 select row(r.user_id, r.event_id, -r.points_cost, 0, 'redeem_coupon', v_now)::internal.points_move
                   from request as r
                   join claimed as c on c.user_id = r.user_id
                  order by r.ordinality)) as o
         where o.outcome = 'posted'
      ), recorded as (
        insert into public.points_events as e (
               user_id, id, event_type, event_time, points_delta, validation_status, validated_at, validated_by,
               related_entity_type, related_entity_id, nonce, payload_hash, request_id, transfer_id, created_at, updated_at)
        select r.user_id, r.event_id, 'redeem_coupon', v_now, -r.points_cost, 'validated', v_now, 'system',
               'coupon', r.coupon_id, r.idempotency_key, r.payload_hash, r.request_id, p.transfer_id, v_now, v_now
          from posted as p
          join request as r on r.event_id = p.transfer_id
      ), issued as (
        insert into public.coupons as c (
               coupon_id, template_id, code_hash, key_id, issued_to, issued_points_cost, issued_at, points_event_id,
               points_remaining, expires_at, created_at, updated_at)
        select r.coupon_id, r.template_id, r.code_hash, r.key_id, r.user_id, r.points_cost, v_now, r.event_id,
               p.from_available, r.expires_at, v_now, v_now
          from posted as p
          join request as r on r.event_id = p.transfer_id
      )
      select r.ordinality::int,
             case when p.transfer_id is not null then jsonb_build_object(
               'success', true, 'coupon_id', r.coupon_id, 'expires_at', r.expires_at, 'points_cost', r.points_cost,
               'points_remaining', p.from_available, 'sealed_code', r.sealed_code, 'replayed', false) end,
             null::jsonb
        from request as r
        left join posted as p on p.transfer_id = r.event_id
       where p.transfer_id is not null or r.place <= r.room
    loop
      if v_outcome.answer is null then
        v_raced := true;
      else
        v_bought := v_bought || v_outcome.position;
        v_coupons := v_coupons || (v_outcome.answer ->> 'coupon_id')::uuid;
        return next v_outcome;
      end if;
    end loop;

    if v_counted is not null then
      update public.coupon_stock as s
         set issued = s.issued + b.issued, points = s.points + b.points
        from (select c.template_id, count(*) as issued, sum(c.issued_points_cost) as points
                from public.coupons as c
               where c.coupon_id = any (v_coupons)
               group by c.template_id) as b
       where s.template_id = b.template_id;
    end if;
    -- Whoever lost their nonce to another session meanwhile leaves their place to whoever comes after them.
    exit when not v_raced;
  end loop;

  if cardinality(v_bought) < cardinality(v_users) then
    return query
      select r.ordinality::int,
             case when c.coupon_id is not null then jsonb_build_object(
               'success', true, 'coupon_id', c.coupon_id, 'expires_at', c.expires_at, 'points_cost', c.issued_points_cost,
               'points_remaining', c.points_remaining, 'replayed', true,
               'sealed_code', case when n.payload_hash = h.payload_hash and n.created_at > v_now - interval '15 minutes' then n.sealed end) end,
             case
               when c.coupon_id is not null then null
               when n.nonce is not null then
                 internal.refusal('nonce_reused', format('idempotency_key: %s came with another request before', r.idempotency_key))
               when t.is_active is not true or t.valid_from > v_now or t.valid_until <= v_now
                 or s.template_id is null and (t.max_redemptions is not null or t.budget_points is not null) then
                 internal.refusal('template_not_found', format('template_id: %s', r.template_id))
               when least(t.max_redemptions - s.issued, (t.budget_points - s.points) / t.points_cost) <= 0 then
                 internal.refusal('template_exhausted', format('template_id: %s', r.template_id))
               when coalesce(a.available, 0) < t.points_cost then
                 internal.refusal('insufficient_points', format('Available: %s, Required: %s', coalesce(a.available, 0), t.points_cost))
               else
                 internal.refusal('coupon_limit_reached', format('template_id: %s can be had %s times', r.template_id, t.max_redemptions_per_user))
             end
        from jsonb_populate_recordset(null::internal.coupon_request, p_requests) with ordinality as r
        left join public.coupon_templates as t on t.template_id = r.template_id
        left join unnest(v_books, v_available) as a(book_id, available) on a.book_id = r.user_id
        left join lateral (
             select x.template_id, x.issued, x.points from public.coupon_stock as x
              where x.template_id = r.template_id and x.template_id = any (v_counted) limit 1) as s on true
       cross join lateral (
             select internal.points_event_hash(
                      r.user_id, 'redeem_coupon', null, r.idempotency_key, 'template', r.template_id) as payload_hash offset 0) as h
        left join lateral (
             select x.nonce, x.payload_hash, x.sealed, x.created_at from public.used_nonces as x
              where x.user_id = r.user_id and x.nonce = r.idempotency_key limit 1) as n on true
        left join lateral (
             select x.related_entity_id from public.points_events as x
              where x.user_id = r.user_id and x.payload_hash = h.payload_hash limit 1) as e on true
        left join lateral (
             select x.* from public.coupons as x where x.coupon_id = e.related_entity_id limit 1) as c on true
       where not r.ordinality::int = any (v_bought);
  end if;
end
$$;

-- sql/30_coupons/refund_coupon.sql

-- Gives back the points of a coupon that was not used, and ends it when it has not ended yet. Administrators only.
--
-- Replay:  the same actor and reason again get the first answer; anybody else's refund is refused.
-- Locks:   the coupon, its template's stock, the user's account.
-- Refuses: forbidden, reason_required, coupon_not_found, coupon_refunded, coupon_used.

create or replace function public.refund_coupon(
  p_user_id    uuid,
  p_coupon_id  uuid,
  p_reason     text,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_coupon public.coupons;
  v_replayed boolean;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;

  select c.* into v_coupon from public.coupons as c where c.coupon_id = p_coupon_id for update;
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('coupon_id: %s', p_coupon_id));
  end if;

  v_replayed := exists (
    select from public.points_events as e
     where e.user_id = v_coupon.issued_to and e.id = v_coupon.refund_points_event_id
       and e.validated_by = v_actor and e.validation_notes = p_reason);
  if not v_replayed then
    perform internal.refund_coupon_points(v_coupon, p_reason, v_actor, p_request_id);
  end if;

  return (
    select jsonb_build_object(
             'coupon_id', c.coupon_id, 'user_id', c.issued_to, 'status', c.status, 'refunded_at', c.refunded_at, 'refunded_by', v_actor,
             'points_refunded', c.issued_points_cost, 'refund_points_event_id', c.refund_points_event_id, 'replayed', v_replayed)
      from public.coupons as c
     where c.coupon_id = p_coupon_id);
end
$$;

-- sql/30_coupons/refund_coupon_points.sql

-- Gives back the points of a coupon that the caller has locked: writes the event, whose trigger does what a refund does to
-- the coupon, and posts it.
--
-- Locks:   the coupon, its template's stock, the user's account, the cache row.
-- Refuses: coupon_refunded, coupon_used.

create or replace function internal.refund_coupon_points(p_coupon public.coupons, p_reason text, p_actor text, p_request_id text)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_event_id uuid := internal.uuidv7();
begin
  insert into public.points_events (
         user_id, id, event_type, event_time, points_delta, proof_type, validation_status, validated_by, validation_notes,
         related_entity_type, related_entity_id, request_id, transfer_id)
  values (p_coupon.issued_to, v_event_id, 'coupon_refund', v_now, p_coupon.issued_points_cost, 'manual_admin', 'validated', p_actor,
          p_reason, 'coupon', p_coupon.coupon_id, p_request_id, v_event_id);

  perform internal.move_points(array[
    row(p_coupon.issued_to, v_event_id, p_coupon.issued_points_cost, 0, 'coupon_refund', v_now)::internal.points_move]);
end
$$;

-- sql/30_coupons/release_coupon.sql

-- Lets a coupon go that was held for a purchase which did not happen.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  the same caller under the same key gets the first answer again until somebody else holds it, with "replayed".
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the coupon.
-- Refuses: rate_limited, forbidden (its owner), coupon_not_held, coupon_not_valid. The first and the last are returned as
--          {"refusal": …}, because they are remembered.

create or replace function public.release_coupon(
  p_user_id         uuid,
  p_code_hashes     text[],
  p_idempotency_key text,
  p_ip_address      inet default null,
  p_device_id       text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_refusal jsonb := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  v_coupon internal.shown_coupon;
begin
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, true);
  if v_coupon.standing = 'owner' then
    perform internal.refuse('forbidden', 'A coupon is released at its partner''s till.');
  elsif v_coupon.standing is distinct from 'partner'
        or v_coupon.status <> 'issued' and (v_coupon.status <> 'held' or v_coupon.held_by <> v_coupon.caller) then
    return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
  elsif (v_coupon.held_by, v_coupon.hold_key) is distinct from (v_coupon.caller, p_idempotency_key) then
    perform internal.refuse('coupon_not_held');
  elsif v_coupon.status = 'held' then
    -- Who held it and under which key stays, and tells a replay from what was never held.
    update public.coupons as c
       set status = 'issued', request_id = p_request_id, updated_at = internal.clock()
     where c.coupon_id = v_coupon.coupon_id;
  end if;

  return jsonb_build_object('coupon_id', v_coupon.coupon_id, 'status', 'issued', 'replayed', v_coupon.status = 'issued');
end
$$;

-- sql/30_coupons/revoke_coupon.sql

-- Ends a coupon for good, and gives its points back when asked to. Administrators only.
--
-- Replay:  the same actor, reason and refund again get the first answer; any other revocation is refused. Points that were
--          given back by the revocation itself have its time.
-- Locks:   the coupon; with a refund also its template's stock and the user's account.
-- Refuses: forbidden, reason_required, coupon_not_found, coupon_used, coupon_revoked, coupon_refunded.

create or replace function public.revoke_coupon(
  p_user_id    uuid,
  p_coupon_id  uuid,
  p_reason     text,
  p_refund     boolean default false,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_now timestamptz := internal.clock();
  v_coupon public.coupons;
  v_replayed boolean;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;

  select c.* into v_coupon from public.coupons as c where c.coupon_id = p_coupon_id for update;
  v_replayed := v_coupon.status = 'revoked' and v_coupon.revoked_by = v_actor and v_coupon.revocation_reason = p_reason
                and p_refund = (v_coupon.refunded_at is not distinct from v_coupon.revoked_at);
  if v_coupon.coupon_id is null then
    perform internal.refuse('coupon_not_found', format('coupon_id: %s', p_coupon_id));
  elsif v_coupon.status = 'redeemed' then
    perform internal.refuse('coupon_used', format('coupon_id: %s, at %s', p_coupon_id, v_coupon.redeemed_at));
  elsif v_coupon.status = 'revoked' and not v_replayed then
    perform internal.refuse('coupon_revoked', format('coupon_id: %s, at %s', p_coupon_id, v_coupon.revoked_at));
  end if;

  if not v_replayed then
    update public.coupons as c
       set status = 'revoked', revoked_at = v_now, revoked_by = v_actor, revocation_reason = p_reason,
           request_id = coalesce(p_request_id, c.request_id), updated_at = v_now
     where c.coupon_id = p_coupon_id;
    if p_refund then
      perform internal.refund_coupon_points(v_coupon, p_reason, v_actor, p_request_id);
    end if;
  end if;

  return (
    select jsonb_build_object(
             'coupon_id', c.coupon_id, 'user_id', c.issued_to, 'status', c.status, 'revoked_at', c.revoked_at, 'revoked_by', v_actor,
             'points_refunded', case when p_refund then c.issued_points_cost else 0 end, 'replayed', v_replayed)
           || case when p_refund then jsonb_build_object('refund_points_event_id', c.refund_points_event_id) else '{}' end
      from public.coupons as c
     where c.coupon_id = p_coupon_id);
end
$$;

-- sql/30_coupons/show_codes.sql

-- Lets this transaction's procedure see the coupon whose code somebody shows, by the code's hashes: one under each key.
-- Whoever shows no code any more says so with null.

create or replace function internal.show_codes(p_code_hashes text[])
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  perform set_config('tallybook.codes', coalesce(p_code_hashes::text, ''), true);
end
$$;

-- sql/30_coupons/show_coupon.sql

-- The coupon whose code somebody shows, as it is at this moment, and what they are to it: its owner, at the till of its partner, or
-- a stranger. No row for a code that is none. The service, which brings no user, is the partner's own backend.
--
-- Locks:   the coupon, when asked to.

create or replace function internal.show_coupon(p_user_id uuid, p_code_hashes text[], p_locking boolean)
returns internal.shown_coupon
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_coupon internal.shown_coupon;
begin
  if p_user_id is not null then
    perform internal.act_for(array[p_user_id]);
  end if;
  perform internal.show_codes(p_code_hashes);
  if p_locking then
    -- The next statement sees what whoever held the lock has made of it.
    perform from public.coupons as c where c.code_hash = any (p_code_hashes) for update;
  end if;

  select c.coupon_id,
         case when c.status in ('issued', 'held') and c.expires_at <= v_now then 'expired'
              when c.status = 'held' and c.held_until <= v_now then 'issued'
              else c.status end,
         case when c.issued_to = p_user_id then 'owner'
              when p_user_id is null
                or exists (select from public.partner_members as m where m.user_id = p_user_id and m.partner_id = t.partner_id) then 'partner'
              else 'stranger' end,
         coalesce(p_user_id::text, 'service'),
         case when c.held_until <= v_now then null else c.held_by end, c.hold_key,
         c.held_until, c.redeemed_at, c.redeemed_by, c.redemption_key, c.redemption_terms,
         t.template_name, t.coupon_value_type, t.coupon_value, t.partner_name, c.expires_at
    into v_coupon
    from public.coupons as c
    join public.coupon_templates as t on t.template_id = c.template_id
   where c.code_hash = any (p_code_hashes)
   limit 1;
  return v_coupon;
end
$$;

-- sql/30_coupons/shown_codes.sql

-- The hashes of the code that somebody shows in this transaction, set by internal.show_codes, none before that.
-- Policies write it as (select internal.shown_codes())::text[], which is evaluated once a statement and not once a row.

create or replace function internal.shown_codes()
returns text[]
language plpgsql stable
set search_path = ''
as $$
begin
  return nullif(current_setting('tallybook.codes', true), '')::text[];
end
$$;

-- sql/30_coupons/throttle_coupon_codes.sql

-- Whether somebody has shown too many wrong codes to be heard: the refusal, or null. Until the transaction ends nobody else
-- shows a code from the same user, device or address, so that of many guesses made at once no more are looked up than
-- of as many made in turn.
--
-- Locks:   an advisory lock for each of them, in order.
-- Refuses: rate_limited, as data: a refusal that is raised would take the count of failures back with it.

create or replace function internal.throttle_coupon_codes(p_user_id uuid, p_ip_address inet, p_device_id text)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_refusal jsonb;
begin
  perform pg_advisory_xact_lock(l.key)
     from (select hashtextextended(format('tallybook.coupon_attempts %s %s', g.scope, g.subject), 0) as key
             from internal.coupon_guessers(p_user_id, p_ip_address, p_device_id) as g
            order by 1) as l;

  select internal.refusal('rate_limited', format('coupon_failures_per_%s: %s in %s s; again in %s s',
           w.scope, w.failures_max, w.window_seconds, ceil(extract(epoch from w.ends_at - v_now))))
    into v_refusal
    from (select a.scope, t.failures_max, t.window_seconds, a.window_started_at + make_interval(secs => t.window_seconds) as ends_at
            from internal.coupon_guessers(p_user_id, p_ip_address, p_device_id) as g
            join public.coupon_attempts as a on a.scope = g.scope and a.subject = g.subject
            join public.coupon_throttles as t on t.scope = a.scope and a.failures >= t.failures_max) as w
   where w.ends_at > v_now
   order by w.ends_at desc
   limit 1;
  return v_refusal;
end
$$;

-- sql/30_coupons/touch_coupon_template.sql

-- Says when a template last changed, so that what was sold under other terms can be told apart.

create or replace function internal.touch_coupon_template()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := internal.clock();
  return new;
end
$$;

create or replace trigger coupon_templates_are_dated
before update on public.coupon_templates
for each row execute function internal.touch_coupon_template();

-- sql/30_coupons/verify_coupon.sql

-- Says whether a coupon can be used, to whoever shows its code. Its owner hears how it really stands; its partner's members, and the
-- service, see one that they could consume. Everybody else, and everybody with any other code, gets one and the same answer.
-- p_code_hashes: the code under every key there is. p_user_id null is the service, a partner's own backend.
--
-- Replay:  it changes nothing but the count of wrong codes.
-- Locks:   nobody else shows a code from the same user, device or address meanwhile.
-- Refuses: rate_limited, coupon_not_valid, both returned as {"refusal": …}, because they are remembered.

create or replace function public.verify_coupon(
  p_user_id     uuid,
  p_code_hashes text[],
  p_ip_address  inet default null,
  p_device_id   text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_refusal jsonb := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  v_coupon internal.shown_coupon;
begin
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  v_coupon := internal.show_coupon(p_user_id, p_code_hashes, false);
  if v_coupon.standing = 'owner'
     or v_coupon.standing = 'partner' and (v_coupon.status = 'issued' or v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller) then
    return jsonb_build_object(
      'valid', v_coupon.status = 'issued' or v_coupon.status = 'held' and v_coupon.held_by = v_coupon.caller,
      'status', v_coupon.status, 'coupon_id', v_coupon.coupon_id, 'template_name', v_coupon.template_name,
      'coupon_value_type', v_coupon.coupon_value_type, 'coupon_value', v_coupon.coupon_value,
      'partner_name', v_coupon.partner_name, 'expires_at', v_coupon.expires_at);
  end if;
  return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
end
$$;

-- sql/40_trust/00_tables.sql

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

-- sql/40_trust/account_created_at.sql

-- Since when users have their accounts. It belongs to whoever migrates, and to no role of ours: a hosted auth.users has
-- row-level security without policies, and only the project's own role reads it. It tells ids and times and nothing else.
-- Where that role may not read it either, nobody's age is known, which speaks for nobody and against nobody.

create or replace function internal.account_created_at(p_user_ids uuid[])
returns table (user_id uuid, created_at timestamptz)
language plpgsql stable security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select u.id, u.created_at from auth.users as u where u.id = any (p_user_ids);
exception when insufficient_privilege then
  return;
end
$$;

-- sql/40_trust/backtest_trust.sql

-- What would have been decided with other thresholds or other rules: asks the judge again, with what was known of each event
-- when it was judged, and tells who would change. Writes nothing, so that an answer comes before an update.
-- p_rules changes rules for the time of the question: [{"rule_id", "weight"?, "parameters"?, "mode"?}]; all others are as
-- they are now, and so is what is not given of the active policy. The span is of the times of judgement, p_until excluded.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: unavailable, when no trust policy is active; invalid_body: thresholds, rules.

create or replace function public.backtest_trust(
  p_validate_at int default null,
  p_review_at   int default null,
  p_rules       jsonb default null,
  p_since       timestamptz default null,
  p_until       timestamptz default null
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set enable_hashagg = off  -- sets go through one after the other, and not all at once through memory
set work_mem = '64MB'
as $$
declare
  v_policy public.trust_policies;
  v_rules public.trust_rules[];
  v_sets int;
  v_answer jsonb;
begin
  select p.* into v_policy from public.trust_policies as p where p.is_active;
  if v_policy.policy_id is null then
    perform internal.refuse('unavailable', 'there is no active trust policy');
  end if;
  v_policy.validate_at := coalesce(p_validate_at, v_policy.validate_at);
  v_policy.review_at := coalesce(p_review_at, v_policy.review_at);
  if not (0 <= v_policy.review_at and v_policy.review_at <= v_policy.validate_at and v_policy.validate_at <= 100) then
    perform internal.refuse('invalid_body', format('%s: 0 <= review_at <= validate_at <= 100 must hold, and not %s and %s',
      case when p_validate_at is null then 'review_at' else 'validate_at' end, v_policy.review_at, v_policy.validate_at));
  end if;
  v_rules := internal.changed_trust_rules(p_rules);

  select 1 + count(*) / 10000 into v_sets
    from public.trust_assessments as a
   where (p_since is null or a.assessed_at >= p_since) and (p_until is null or a.assessed_at < p_until);

  with judged as (
    select j.user_id, j.event_id, j.verdict
      from (select array_agg(row(a.user_id, a.event_id, a.features)::internal.points_assessed) as assessed
              from public.trust_assessments as a
             where (p_since is null or a.assessed_at >= p_since) and (p_until is null or a.assessed_at < p_until)
             group by abs(hashtext(a.event_id::text)::bigint) % v_sets) as s
     cross join lateral internal.judge_points_events(s.assessed, v_policy, v_rules) as j
  ), compared as (
    select j.user_id, j.event_id, a.verdict as before, j.verdict as after
      from judged as j
      join public.trust_assessments as a on a.user_id = j.user_id and a.event_id = j.event_id
  ), changed as (
    select e.event_type, c.before, c.after, count(*) as events, count(distinct c.user_id) as users, sum(e.points_delta) as points,
           coalesce(sum(e.points_delta) filter (where c.after = 'validated'), 0)
             - coalesce(sum(e.points_delta) filter (where c.before = 'validated'), 0) as difference
      from compared as c
      join public.points_events as e on e.user_id = c.user_id and e.id = c.event_id
     where c.before <> c.after
     group by e.event_type, c.before, c.after
  )
  select jsonb_build_object(
           'policy', jsonb_build_object('policy_id', v_policy.policy_id, 'base_score', v_policy.base_score,
             'validate_at', v_policy.validate_at, 'review_at', v_policy.review_at),
           'since', p_since, 'until', p_until,
           'assessed', (select count(*) from compared),
           'changed', coalesce(sum(c.events), 0),
           'by_event_type', coalesce(jsonb_agg(jsonb_build_object(
             'event_type', c.event_type, 'from', c.before, 'to', c.after,
             'events', c.events, 'users', c.users, 'points', c.points)
             order by c.event_type, c.before, c.after), '[]'),
           'points_change', coalesce(sum(c.difference), 0))
    into v_answer
    from changed as c;
  return v_answer;
end
$$;

-- sql/40_trust/bump_version.sql

-- Counts the updates of a row of settings, so that what was decided by it can be told from what was decided before.

create or replace function internal.bump_version()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.version := old.version + 1;
  new.updated_at := internal.clock();
  return new;
end
$$;

create or replace trigger trust_policies_have_a_version
before update on public.trust_policies
for each row execute function internal.bump_version();

create or replace trigger trust_rules_have_a_version
before update on public.trust_rules
for each row execute function internal.bump_version();

-- sql/40_trust/changed_trust_rules.sql

-- The rules as they are, with what p_changes says of them instead: [{"rule_id", "weight"?, "parameters"?, "mode"?}].
--
-- Refuses: invalid_body: no list, an unknown rule or member, a value that the rule's column would not take.

create or replace function internal.changed_trust_rules(p_changes jsonb)
returns public.trust_rules[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_change jsonb;
  v_rules public.trust_rules[];
begin
  if p_changes is not null and jsonb_typeof(p_changes) <> 'array' then
    perform internal.refuse('invalid_body', 'rules: must be a list of rules');
  end if;
  for v_change in select c.value from jsonb_array_elements(coalesce(p_changes, '[]')) as c loop
    if jsonb_typeof(v_change) <> 'object' or v_change - array['rule_id', 'weight', 'parameters', 'mode'] <> '{}'
       or jsonb_path_exists(v_change, '$.* ? (@ == null)') then
      perform internal.refuse('invalid_body', 'rules: each has a rule_id, and weight, parameters and mode where they change');
    end if;
    if not exists (select from public.trust_rules as r where r.rule_id = v_change ->> 'rule_id') then
      perform internal.refuse('invalid_body', format('rules: there is no rule %s', v_change ->> 'rule_id'));
    end if;
  end loop;
  begin
    v_rules := array(
      select coalesce((
               select jsonb_populate_record(r, c.value) from jsonb_array_elements(p_changes) as c
                where c.value ->> 'rule_id' = r.rule_id limit 1), r)
        from public.trust_rules as r);
  exception when data_exception or check_violation then
    perform internal.refuse('invalid_body', format('rules: %s', sqlerrm));
  end;
  return v_rules;
end
$$;

-- sql/40_trust/decide_points_events.sql

-- Decides the events of a set: judges them by the active policy, posts the points of what is validated, and writes down
-- what was found. The caller has locked the events, and they are pending.
--
-- Replay:  none of its own: a decided event is not pending any more.
-- Locks:   new rows of device_users, accounts and cache rows, each in order.
-- Refuses: unavailable, when no trust policy is active.

create or replace function internal.decide_points_events(p_events public.points_events[])
returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_policy public.trust_policies;
  v_rules public.trust_rules[];
  v_judged internal.points_judged[];
  v_moves internal.points_move[];
  v_streaks int[];
  v_refused uuid[];
  v_answer jsonb;
begin
  select p.* into v_policy from public.trust_policies as p where p.is_active;
  if v_policy.policy_id is null then
    perform internal.refuse('unavailable', 'there is no active trust policy');
  end if;
  v_rules := array(select r from public.trust_rules as r where r.mode <> 'off');

  -- First, so that the events of one set see each other's devices; each with the time at which it came into sight.
  insert into public.device_users as d (device_id, user_id, first_seen_at)
  select e.device_id, e.user_id, min(e.created_at)
    from unnest(p_events) as e
   where e.device_id is not null
   group by e.device_id, e.user_id
   order by e.device_id, e.user_id
  on conflict (device_id, user_id) do nothing;

  v_judged := array(
    select j from internal.judge_points_events(array(
      select f from internal.points_event_features(p_events) as f), v_policy, v_rules) as j);

  -- What goes to review keeps waiting and moves nothing. What is validated earns what it is worth now, and what waited
  -- is what it was worth when it was sent. What takes more than there is, which only a hand can have asked for, is for a
  -- person to look at as well.
  select array_agg(m.move), array_agg(m.streak_days) into v_moves, v_streaks
    from (
      select row(e.user_id, e.id, case when j.verdict = 'validated' then coalesce(w.points, e.points_delta) else 0 end,
                 -e.points_delta, e.event_type, e.event_time)::internal.points_move as move,
             w.streak_days
        from unnest(v_judged) as j
        join unnest(p_events) as e on e.id = j.event_id
        left join internal.points_awarded(array(
               select e from unnest(v_judged) as j join unnest(p_events) as e on e.id = j.event_id
                where j.verdict = 'validated' order by e.id)) as w on w.event_id = j.event_id
       where j.verdict <> 'pending_review'
       order by e.id) as m;
  v_refused := array(
    select o.transfer_id from internal.move_points(v_moves) as o where o.outcome = 'insufficient_funds');

  with judged as materialized (
    select j.*, m.points, m.streak_days,
           case when j.event_id = any (v_refused) then 'pending_review' else j.verdict end as outcome
      from unnest(v_judged) as j
      left join unnest(v_moves, v_streaks) as m(user_id, event_id, points, pending, kind, effective_at, streak_days)
        on m.event_id = j.event_id
  ), decided as (
    update public.points_events as e
       set validation_status = j.outcome, trust_score = j.trust_score,
           points_delta = case when j.outcome = 'validated' then j.points else e.points_delta end,
           streak_days = case when j.outcome = 'validated' then j.streak_days end,
           transfer_id = case when j.outcome = 'validated' and j.points <> 0 then j.event_id end,
           validated_at = case when j.outcome = 'validated' then v_now end,
           validated_by = case when j.outcome = 'validated' then 'system' end,
           updated_at = v_now
      from judged as j
     where e.user_id = j.user_id and e.id = j.event_id
    returning e.id, e.user_id, e.validation_status, e.points_delta, e.trust_score
  ), assessed as (
    insert into public.trust_assessments as a (
           user_id, event_id, policy_id, policy_version, trust_score, verdict, features, hits, assessed_at)
    select j.user_id, j.event_id, v_policy.policy_id, v_policy.version, j.trust_score, j.verdict, j.features, j.hits, v_now
      from judged as j
    on conflict (event_id, user_id) do update  -- an operator may send an event back to where it waits
       set policy_id = excluded.policy_id, policy_version = excluded.policy_version, trust_score = excluded.trust_score,
           verdict = excluded.verdict, features = excluded.features, hits = excluded.hits, assessed_at = excluded.assessed_at
  ), suspected as (
    insert into public.fraud_insights as f (user_id, insight_type, severity, score, details, related_event_ids)
    select j.user_id, j.insight_type, j.severity, j.trust_score,
           jsonb_build_object('rules', j.hits, 'validate_at', v_policy.validate_at, 'review_at', v_policy.review_at)
             || case when j.features ? 'list' then jsonb_build_object('list', jsonb_build_object(
                  'list', j.features -> 'list', 'subject_type', j.features -> 'list_subject',
                  'reason', j.features -> 'list_reason'))
                else '{}' end,
           array[j.event_id]
      from judged as j
     where j.outcome <> 'validated'
    returning f.user_id, f.insight_type, f.severity, f.score
  )
  select jsonb_build_object(
           'validated', count(*) filter (where d.validation_status = 'validated'),
           'pending_review', count(*) filter (where d.validation_status = 'pending_review'),
           'rejected', count(*) filter (where d.validation_status = 'rejected'),
           'flagged', 0,
           'events', jsonb_agg(jsonb_build_object(
             'event_id', d.id, 'user_id', d.user_id, 'validation_status', d.validation_status, 'trust_score', d.trust_score,
             'points_awarded', case when d.validation_status = 'validated' then d.points_delta else 0 end) order by d.id),
           'insights', (
             select coalesce(jsonb_agg(to_jsonb(f)), '[]') from suspected as f))
    into v_answer
    from decided as d;
  return v_answer;
end
$$;

-- sql/40_trust/flag_points_event.sql

-- Takes an event that cannot be decided out of the queue, for a person to decide. Its user may read the state, and only
-- the audit log has the error's own words.

create or replace function internal.flag_points_event(p_event public.points_events, p_state text, p_message text)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
  update public.points_events as e
     set validation_status = 'flagged', validation_notes = format('It could not be decided: %s', p_state),
         updated_at = internal.clock()
   where e.user_id = p_event.user_id and e.id = p_event.id;
  perform internal.audit(
    'system', 'points_event.flagged', 'points_event', p_event.id::text, p_message,
    jsonb_build_object('validation_status', p_event.validation_status),
    jsonb_build_object('validation_status', 'flagged', 'state', p_state));
  return jsonb_build_object(
    'validated', 0, 'pending_review', 0, 'rejected', 0, 'flagged', 1,
    'events', jsonb_build_array(jsonb_build_object(
      'event_id', p_event.id, 'user_id', p_event.user_id, 'validation_status', 'flagged',
      'trust_score', null, 'points_awarded', 0)),
    'insights', jsonb_build_array());
end
$$;

-- sql/40_trust/judge_points_events.sql

-- The one judge: from what is known of each event, by the given policy and rules, a score of 0 to 100 and what follows.
-- It reads nothing, so that a backtest asks the very same judge with other rules.
--
-- The score is the policy's base and the weights of the enforced rules that hit. A denied subject scores 0, an allowed one
-- 100, and a watched one never enough to be validated. Each hit tells the rule, its version, what it saw and the threshold.

create or replace function internal.judge_points_events(
  p_assessed internal.points_assessed[],
  p_policy   public.trust_policies,
  p_rules    public.trust_rules[]
)
returns setof internal.points_judged
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  with rule as materialized (
    select r.feature, (r.parameters ->> 'below')::numeric as below, (r.parameters ->> 'at_least')::numeric as at_least,
           r.rule_id, r.weight, r.insight_type, r.severity, r.mode = 'enforce' as counts,
           jsonb_build_object('rule', r.rule_id, 'version', r.version, 'mode', r.mode, 'weight', r.weight) || r.parameters as said
      from unnest(p_rules) as r
     where r.mode <> 'off'
  )
  select a.user_id, a.event_id, a.features, s.score,
         case when s.score >= p_policy.validate_at then 'validated'
              when s.score >= p_policy.review_at then 'pending_review' else 'rejected' end,
         case when a.features ->> 'list' = 'deny' then 'manual_flag'
              when h.worst is not null then h.worst
              when a.features ->> 'list' = 'watch' then 'manual_flag' else 'low_trust_score' end,
         case when a.features ->> 'list' = 'deny' then 'critical'
              else coalesce(h.severity, case when s.score >= p_policy.review_at then 'medium' else 'high' end) end,
         coalesce(h.hits, '[]')
    from unnest(p_assessed) as a
   cross join lateral (
         select sum(r.weight) filter (where r.counts) as weight,
                jsonb_agg(r.said || jsonb_build_object('observed', round(v.observed, 3)) order by r.weight, r.rule_id) as hits,
                (array_agg(r.insight_type order by r.weight, r.rule_id) filter (where r.counts and r.weight < 0))[1] as worst,
                (array_agg(r.severity order by r.weight, r.rule_id) filter (where r.counts and r.weight < 0))[1] as severity
           from rule as r
          cross join lateral (select (a.features ->> r.feature)::numeric as observed) as v
          where (r.below is null or v.observed < r.below) and (r.at_least is null or v.observed >= r.at_least)) as h
   cross join lateral (
         select greatest(0, least(100, p_policy.base_score + coalesce(h.weight, 0)))::int as by_rules) as b
   cross join lateral (
         select case a.features ->> 'list'
                  when 'deny' then 0
                  when 'allow' then 100
                  when 'watch' then greatest(0, least(b.by_rules, p_policy.validate_at - 1))
                  else b.by_rules end as score) as s;
end
$$;

-- sql/40_trust/label_points_event.sql

-- Notes what an event turned out to be, or what there is to know about it. Any event that was judged or reviewed can be
-- labelled, long afterwards too; the newest label counts in trust_rule_precision. Nothing else changes.
--
-- Replay:  the author's same words again, when nobody has said anything since, are answered as the first time.
-- Locks:   the event.
-- Refuses: forbidden, invalid_body (label; neither label nor note), event_not_found, own_event, not_reviewable: it is not
--          decided yet.

create or replace function public.label_points_event(
  p_user_id    uuid,
  p_event_id   uuid,
  p_label      text default null,
  p_note       text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_event public.points_events;
  v_last public.points_review_notes;
  v_note public.points_review_notes;
begin
  if p_label not in ('confirmed_fraud', 'false_positive') then
    perform internal.refuse('invalid_body', 'label: must be confirmed_fraud or false_positive');
  end if;
  if p_label is null and coalesce(p_note, '') !~ '\S' then
    perform internal.refuse('invalid_body', 'note: give a label, a note, or both');
  end if;

  select e.* into v_event
    from public.points_events as e
   where e.user_id = internal.user_of_points_event(p_event_id) and e.id = p_event_id
     for update;
  if v_event.id is null then
    perform internal.refuse('event_not_found', format('event_id: %s', p_event_id));
  end if;
  if v_event.user_id = p_user_id then
    perform internal.refuse('own_event', format('event %s is the author''s own', p_event_id));
  end if;
  if v_event.validation_status in ('pending', 'validating') then
    perform internal.refuse('not_reviewable', format('event %s is %s', p_event_id, v_event.validation_status));
  end if;

  select n.* into v_last
    from public.points_review_notes as n where n.event_id = p_event_id order by n.note_id desc limit 1;
  if (v_last.label, v_last.note, v_last.author) is distinct from (p_label, nullif(p_note, ''), v_actor) then
    insert into public.points_review_notes as n (event_id, user_id, note, label, author)
    values (p_event_id, v_event.user_id, nullif(p_note, ''), p_label, v_actor)
    returning n.* into v_note;
    perform internal.audit(
      v_actor, 'points_event.labelled', 'points_event', p_event_id::text, nullif(p_note, ''), null,
      jsonb_build_object('label', p_label), p_request_id);
  end if;
  return jsonb_build_object(
    'note_id', coalesce(v_note.note_id, v_last.note_id), 'event_id', p_event_id, 'user_id', v_event.user_id,
    'label', p_label, 'note', nullif(p_note, ''), 'author', v_actor, 'replayed', v_note.note_id is null);
end
$$;

-- sql/40_trust/pending_points_events.sql

-- The events that wait to be decided, locked: the oldest p_limit that nobody else has, or the one that is named, for which
-- it waits. Null when there are none. An event whose device's evidence could not be checked waits a quarter of an hour for
-- that.
--
-- Locks:   the events, skipping those another worker has.
-- Refuses: event_not_found, when one is named and is not pending.

create or replace function internal.pending_points_events(p_event_id uuid, p_limit int)
returns public.points_events[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_events public.points_events[];
begin
  if p_event_id is null then
    select array_agg(c.event) into v_events
      from (select e as event
              from public.points_events as e
             where e.validation_status = 'pending' and e.transfer_id is null
               and (e.attestation is distinct from 'unavailable' or e.created_at <= internal.clock() - interval '15 minutes')
             order by e.id
             limit p_limit
               for update skip locked) as c;
    return v_events;
  end if;
  select array_agg(c.event) into v_events
    from (select e as event
            from public.points_events as e
           where e.validation_status = 'pending' and e.transfer_id is null and e.id = p_event_id
             for update) as c;
  if v_events is null then
    perform internal.refuse('event_not_found', format('event_id: %s is not pending', p_event_id));
  end if;
  return v_events;
end
$$;

-- sql/40_trust/points_event_features.sql

-- What is known of each event when it is judged, as numbers a rule can compare; what is not known is left out, and no rule
-- hits for it. Only what the user sent before counts: of two events that do not go together, the later to arrive is the
-- suspect. Whatever else the user did is found in one scan, of the day on either side of the event's own time.
--
-- `list` is what a person decided about the user, the device or the address, the strictest first.

create or replace function internal.points_event_features(p_events public.points_events[])
returns setof internal.points_assessed
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_sendable text[] := array(select r.event_type from public.points_rules as r where r.client_submittable);
  v_baits text[] := array(select r.event_type from public.points_rules as r where r.is_honeypot);
  v_listing boolean := exists (select from public.trust_lists);
begin
  return query
  select e.user_id, e.id, jsonb_strip_nulls(jsonb_build_object(
           'seconds_to_nearest_event', extract(epoch from h.nearest),
           'events_in_hour', h.in_hour,
           'arrived_in_minute', h.arrived,
           'repeated_proof', h.repeated,
           'timing_spread_seconds', case when cardinality(h.times) = 6 then extract(epoch from
             greatest(e.event_time - h.times[1], h.times[1] - h.times[2], h.times[2] - h.times[3],
                      h.times[3] - h.times[4], h.times[4] - h.times[5], h.times[5] - h.times[6])
             - least(e.event_time - h.times[1], h.times[1] - h.times[2], h.times[2] - h.times[3],
                     h.times[3] - h.times[4], h.times[4] - h.times[5], h.times[5] - h.times[6])) end,
           'seconds_ahead', greatest(extract(epoch from e.event_time - e.created_at), 0),
           'hours_late', trunc(greatest(extract(epoch from e.created_at - e.event_time) / 3600, 0), 2),
           'account_age_days', trunc(extract(epoch from e.created_at - u.created_at) / 86400, 2),
           'device_accounts', case when e.device_id is not null or e.device_key is not null then greatest((
             select count(*) from (
               select from public.device_users as d
                where d.device_id = e.device_id and (d.first_seen_at <= e.created_at or d.user_id = e.user_id)
                limit 30) as d), (
             select count(*) from (
               select from public.device_key_users as d
                where d.key_id = e.device_key and d.first_seen_at <= e.created_at limit 30) as d)) end,  -- a farm of more is no worse, and every web browser may be called the same
           'device_is_known', case
             when e.device_id is null then null
             when exists (select from public.device_users as d
                           where d.device_id = e.device_id and d.user_id = e.user_id and d.first_seen_at < e.created_at) then 1
             when exists (select from public.device_users as d
                           where d.user_id = e.user_id and d.first_seen_at < e.created_at) then 0 end,
           'entity_owned', case
             when e.related_entity_id is null then null
             when exists (select from public.entity_owners as o
                           where o.entity_type = e.related_entity_type and o.entity_id = e.related_entity_id
                             and o.user_id = e.user_id) then 1
             when exists (select from public.entity_owners as o
                           where o.entity_type = e.related_entity_type and o.entity_id = e.related_entity_id) then 0 end,
           'open_insights', (
             select count(*) from public.fraud_insights as f
              where f.user_id = e.user_id and f.created_at >= e.created_at - interval '24 hours' and f.created_at < e.created_at
                and f.severity in ('high', 'critical') and not f.resolved),
           'honeypot', (e.event_type = any (v_baits))::int,
           'attestation', case e.attestation when 'verified' then 1 when 'missing' then 0 when 'unsupported' then 0 when 'failed' then -1 end,
           -- What a person gave is for a person to decide, however it came to wait here.
           'list', case when e.proof_type = 'manual_admin' and l.list is distinct from 'deny' then 'watch' else l.list end,
           'list_subject', coalesce(l.subject_type, case when e.proof_type = 'manual_admin' then 'award' end),
           'list_reason', l.reason))
    from unnest(p_events) as e
    left join internal.account_created_at(array(select distinct x.user_id from unnest(p_events) as x)) as u
      on u.user_id = e.user_id
   cross join lateral (
         select min(greatest(o.event_time - e.event_time, e.event_time - o.event_time)) filter (
                  where o.event_time between e.event_time - interval '1 minute'
                                         and e.event_time + interval '1 minute') as nearest,
                count(*) filter (where o.event_time between e.event_time - interval '1 hour' and e.event_time) as in_hour,
                count(*) filter (where o.created_at >= e.created_at - interval '1 minute') as arrived,
                -- A large payload would have to be unpacked for each comparison, and anyone can make it differ in one byte.
                -- What an app says of itself may say the same every day; a measurement of somebody else's does not.
                count(*) filter (where e.proof_type in ('google_fit', 'apple_health') and e.proof_payload <> '{}'
                  and pg_column_size(o.proof_payload) < 8192 and o.proof_payload = e.proof_payload) as repeated,
                (array_agg(o.event_time order by o.event_time desc) filter (where o.event_time <= e.event_time))[1:6] as times
           from public.points_events as o
          where o.user_id = e.user_id
            and o.event_time between e.event_time - interval '1 day' and e.event_time + interval '1 day'
            and o.event_type = any (v_sendable)
            and (o.id < e.id) is true) as h  -- "is true" keeps the planner from going by the id instead of the time
    left join lateral (
         select t.list, t.subject_type, t.reason
           from (values ('user', e.user_id::text), ('device', e.device_id), ('address', host(e.ip_address))
                 union all
                 select 'address', network(set_masklen(e.ip_address, m.length))::text
                   from unnest(case family(e.ip_address) when 4 then '{24,16,8}'::int[] else '{64,56,48,32}' end) as m(length)
                ) as s(subject_type, subject)
           join public.trust_lists as t on t.subject_type = s.subject_type and t.subject = s.subject
          where t.expires_at is null or t.expires_at > v_now
          order by array_position('{deny,watch,allow}', t.list)
          limit 1) as l on v_listing;
end
$$;

-- sql/40_trust/points_review_answer.sql

-- What review_points_event answers, the first time and every other.

create or replace function internal.points_review_answer(
  p_event    public.points_events,
  p_review   public.points_reviews,
  p_replayed boolean
)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'event_id', p_review.event_id, 'user_id', p_review.user_id, 'decision', p_review.decision,
    'validation_status', case p_review.decision when 'approved' then 'validated' else 'rejected' end,
    'points_awarded', case p_review.decision when 'approved' then p_event.points_delta else 0 end,
    'trust_score', p_event.trust_score, 'reviewed_by', p_review.reviewed_by, 'replayed', p_replayed);
end
$$;

-- sql/40_trust/resolve_fraud_insight.sql

-- Closes an insight, with what was found out. The user's next events are then judged without it.
--
-- Replay:  the same person saying the same again is answered as the first time, with "replayed".
-- Locks:   the insight.
-- Refuses: forbidden, reason_required, insight_not_found, own_event (what is about themselves), already_resolved.

create or replace function public.resolve_fraud_insight(
  p_user_id    uuid,
  p_insight_id uuid,
  p_notes      text,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_insight public.fraud_insights;
  v_replayed boolean;
begin
  if coalesce(p_notes, '') !~ '\S' then
    perform internal.refuse('reason_required', 'notes: say what was found out');
  end if;
  select f.* into v_insight from public.fraud_insights as f where f.insight_id = p_insight_id for update;
  if v_insight.insight_id is null then
    perform internal.refuse('insight_not_found', format('insight_id: %s', p_insight_id));
  end if;
  if v_insight.user_id = p_user_id then
    perform internal.refuse('own_event', format('insight %s is about the caller', p_insight_id));
  end if;

  v_replayed := v_insight.resolved;
  if v_insight.resolved then
    if (v_insight.resolved_by, v_insight.resolution_notes) is distinct from (v_actor, p_notes) then
      perform internal.refuse('already_resolved', format('%s has resolved it', coalesce(v_insight.resolved_by, 'somebody')));
    end if;
  else
    update public.fraud_insights as f
       set resolved = true, resolved_at = internal.clock(), resolved_by = v_actor, resolution_notes = p_notes
     where f.insight_id = p_insight_id
    returning f.* into v_insight;
    perform internal.audit(
      v_actor, 'fraud_insight.resolved', 'fraud_insight', p_insight_id::text, p_notes, null,
      jsonb_build_object('insight_type', v_insight.insight_type, 'severity', v_insight.severity), p_request_id);
  end if;
  return jsonb_build_object(
    'insight_id', v_insight.insight_id, 'user_id', v_insight.user_id, 'resolved', true, 'resolved_at', v_insight.resolved_at,
    'resolved_by', v_insight.resolved_by, 'replayed', v_replayed);
end
$$;

-- sql/40_trust/review_points_event.sql

-- Decides an event that waits for a person, 'approved' or 'rejected', with a reason. Approving posts what the event is worth
-- now and resolves the event's own open insights; rejecting lets nothing of it count. p_label says what the reviewer takes
-- it for, and feeds trust_rule_precision.
--
-- Replay:  the same reviewer saying the same again is answered as the first time, with "replayed".
-- Locks:   the event; then the account and the cache row.
-- Refuses: forbidden, reason_required, invalid_body (decision, label), event_not_found, own_event (what is theirs, and an
--          award they made), already_reviewed, not_reviewable, insufficient_funds: a deduction that no longer fits.

create or replace function public.review_points_event(
  p_user_id    uuid,
  p_event_id   uuid,
  p_decision   text,
  p_reason     text,
  p_label      text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_actor text := internal.actor(p_user_id, p_actor);
  v_event public.points_events;
  v_review public.points_reviews;
  v_points int;
  v_streak int;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: say why this is so decided');
  end if;
  if p_decision is null or p_decision not in ('approved', 'rejected') then
    perform internal.refuse('invalid_body', 'decision: must be approved or rejected');
  end if;
  if p_label not in ('confirmed_fraud', 'false_positive') then
    perform internal.refuse('invalid_body', 'label: must be confirmed_fraud or false_positive');
  end if;

  select e.* into v_event
    from public.points_events as e
   where e.user_id = internal.user_of_points_event(p_event_id) and e.id = p_event_id
     for update;
  if v_event.id is null then
    perform internal.refuse('event_not_found', format('event_id: %s', p_event_id));
  end if;
  if v_event.user_id = p_user_id then
    perform internal.refuse('own_event', format('event %s is the reviewer''s own', p_event_id));
  end if;

  select r.* into v_review from public.points_reviews as r where r.event_id = p_event_id;
  if v_review.event_id is null then
    if v_event.validation_status not in ('pending_review', 'flagged') then
      perform internal.refuse('not_reviewable', format('event %s is %s', p_event_id, v_event.validation_status));
    end if;
    -- While an award waits, validated_by is who made it.
    if p_decision = 'approved' and v_event.validated_by = v_actor then
      perform internal.refuse('own_event', format('%s made this award', v_actor));
    end if;
  elsif (v_review.decision, v_review.reason, v_review.label, v_review.reviewed_by, v_review.reviewer_id)
        is distinct from (p_decision, p_reason, p_label, v_actor, p_user_id) then
    perform internal.refuse('already_reviewed', format('%s has %s it', v_review.reviewed_by, v_review.decision));
  else
    return internal.points_review_answer(v_event, v_review, true);
  end if;

  v_points := 0;
  if p_decision = 'approved' then
    select w.points, w.streak_days into v_points, v_streak from internal.points_awarded(array[v_event]) as w;
    v_points := coalesce(v_points, v_event.points_delta);
  end if;
  perform internal.refuse('insufficient_funds', format('event %s takes more than the user has', p_event_id))
     from internal.move_points(array[row(v_event.user_id, v_event.id, v_points, -v_event.points_delta,
            v_event.event_type, v_event.event_time)::internal.points_move]) as o
    where o.outcome = 'insufficient_funds';

  update public.points_events as e
     set validation_status = case p_decision when 'approved' then 'validated' else 'rejected' end,
         points_delta = case p_decision when 'approved' then v_points else e.points_delta end,
         streak_days = case p_decision when 'approved' then v_streak end,
         transfer_id = case when v_points <> 0 then e.id end,
         validated_at = case p_decision when 'approved' then v_now end,
         validated_by = case p_decision when 'approved' then v_actor end,
         updated_at = v_now
   where e.user_id = v_event.user_id and e.id = v_event.id;

  insert into public.points_reviews as r (
         event_id, user_id, decision, reason, label, reviewed_by, reviewer_id, reviewed_at, request_id)
  values (p_event_id, v_event.user_id, p_decision, p_reason, p_label, v_actor, p_user_id, v_now, p_request_id)
  returning r.* into v_review;

  if p_label is not null then
    insert into public.points_review_notes (event_id, user_id, note, label, author, created_at)
    values (p_event_id, v_event.user_id, p_reason, p_label, v_actor, v_now);
  end if;

  if p_decision = 'approved' then
    update public.fraud_insights as f
       set resolved = true, resolved_at = v_now, resolved_by = v_actor, resolution_notes = p_reason
     where f.user_id = v_event.user_id and f.created_at >= v_event.created_at
       and f.related_event_ids = array[p_event_id] and not f.resolved;
  end if;

  perform internal.audit(
    v_actor, 'points_event.' || p_decision, 'points_event', p_event_id::text, p_reason,
    jsonb_build_object('validation_status', v_event.validation_status, 'points_delta', v_event.points_delta,
      'trust_score', v_event.trust_score, 'validated_by', v_event.validated_by),
    jsonb_build_object('validation_status', case p_decision when 'approved' then 'validated' else 'rejected' end,
      'points_awarded', v_points, 'label', p_label), p_request_id);

  v_event.points_delta := case p_decision when 'approved' then v_points else v_event.points_delta end;
  return internal.points_review_answer(v_event, v_review, false);
end
$$;

-- sql/40_trust/suspect_failed_attestation.sql

-- A device's evidence that was refused is a finding about its user, once an hour and reason. Some of it happens to honest
-- people as well: a slow network, requests that overtake one another, an app installed anew. That is no grave finding.
--
-- Locks:   none.
-- Refuses: nothing.

create or replace function internal.suspect_failed_attestation()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.fraud_insights (user_id, insight_type, severity, details, related_event_ids)
  values (new.user_id, 'attestation_failure',
          case when new.reason in ('challenge_not_valid', 'counter_not_greater', 'key_taken', 'unknown_key') then 'medium' else 'high' end,
          jsonb_strip_nulls(jsonb_build_object(
            'reason', new.reason, 'detail', new.detail, 'purpose', new.purpose, 'platform', new.platform, 'key_id', new.key_id,
            'request_id', new.request_id)),
          array_remove(array[new.event_id], null));
  return null;
end
$$;

create or replace trigger failed_attestations_are_suspect
after insert on public.attestation_failures
for each row execute function internal.suspect_failed_attestation();

-- sql/40_trust/trust_rule_precision.sql

-- How often each version of a rule that speaks against events was right, as far as people have said: of the events it hit
-- and somebody labelled, the share that was fraud. A rule in the shadow is counted like any other; that is what it is for.

create or replace view public.trust_rule_precision
with (security_invoker = true)
as
select h.rule_id, h.version, count(*) as hits,
       count(*) filter (where n.label = 'confirmed_fraud') as confirmed_fraud,
       count(*) filter (where n.label = 'false_positive') as false_positive,
       round(count(*) filter (where n.label = 'confirmed_fraud')::numeric / nullif(count(n.label), 0), 3) as precision
  from public.trust_assessments as a
 cross join lateral jsonb_to_recordset(a.hits) as r(rule text, version int, weight int)
 cross join lateral (select r.rule, r.version) as h(rule_id, version)
  left join (
       select distinct on (x.event_id) x.event_id, x.label
         from public.points_review_notes as x
        where x.label is not null
        order by x.event_id, x.note_id desc) as n on n.event_id = a.event_id
 where r.weight < 0
 group by h.rule_id, h.version;

-- sql/40_trust/user_of_points_event.sql

-- Whose an event is that waits, was reviewed or was judged; null for every other. Events are kept by their users, and no
-- index finds one by its id alone, because every submission would pay for it.

create or replace function internal.user_of_points_event(p_event_id uuid)
returns uuid
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_user_id uuid;
begin
  select e.user_id into v_user_id
    from public.points_events as e
   where e.validation_status in ('pending_review', 'flagged', 'pending', 'validating') and e.transfer_id is null
     and e.id = p_event_id
   limit 1;
  if v_user_id is null then
    select r.user_id into v_user_id from public.points_reviews as r where r.event_id = p_event_id;
  end if;
  if v_user_id is null then
    select a.user_id into v_user_id from public.trust_assessments as a where a.event_id = p_event_id limit 1;
  end if;
  return v_user_id;
end
$$;

-- sql/40_trust/validate_points_events.sql

-- Decides pending events: judges them, validates, sends to review or rejects, and posts the points of what it validates.
-- Takes the oldest p_limit, or the one that is named. Several workers share the queue without waiting for one another.
-- p_user_id is the administrator who asks; a worker and the service bring none.
--
-- An event that cannot be decided is taken out of the queue, so that the others go on: it is 'flagged', an administrator
-- decides it, and the audit log has the error. When a set of several fails whole, no event is to blame, and it is an error.
--
-- Replay:  a decided event is not pending any more; a second run finds others or none.
-- Locks:   the events, skipping those another worker has; then devices, accounts and cache rows, each in order.
-- Refuses: forbidden, to a user who is no administrator; unavailable, when no trust policy is active; event_not_found,
--          when one is named and is not pending.

create or replace function public.validate_points_events(
  p_event_id uuid default null,
  p_limit    int default 1000,
  p_user_id  uuid default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_events public.points_events[];
  v_event public.points_events;
  v_state text;
  v_message text;
  v_one jsonb;
  v_answer jsonb := jsonb_build_object(
    'validated', 0, 'pending_review', 0, 'rejected', 0, 'flagged', 0, 'events', '[]'::jsonb, 'insights', '[]'::jsonb);
begin
  if p_user_id is not null then
    perform internal.actor(p_user_id);
  end if;

  begin
    v_events := internal.pending_points_events(p_event_id, p_limit);
    if v_events is null then
      return v_answer;
    end if;
    return internal.decide_points_events(v_events);
  exception when others then
    -- A value, a constraint or a procedure that says no may be one event's fault. Anything else is not.
    if sqlstate !~ '^(22|23|54|P0|PT4)' or v_events is null then
      raise;
    end if;
    v_state := sqlstate;
    v_message := sqlerrm;
  end;

  v_events := internal.pending_points_events(p_event_id, p_limit);
  -- By users, because each event locks its own account here.
  for v_event in select e.* from unnest(v_events) as e order by e.user_id, e.id loop
    begin
      v_one := internal.decide_points_events(array[v_event]);
    exception when others then
      if sqlstate !~ '^(22|23|54|P0|PT4)' then
        raise;
      end if;
      v_one := internal.flag_points_event(v_event, sqlstate, sqlerrm);
    end;
    v_answer := jsonb_build_object(
      'validated', (v_answer -> 'validated')::int + (v_one -> 'validated')::int,
      'pending_review', (v_answer -> 'pending_review')::int + (v_one -> 'pending_review')::int,
      'rejected', (v_answer -> 'rejected')::int + (v_one -> 'rejected')::int,
      'flagged', (v_answer -> 'flagged')::int + (v_one -> 'flagged')::int,
      'events', (v_answer -> 'events') || (v_one -> 'events'),
      'insights', (v_answer -> 'insights') || (v_one -> 'insights'));
  end loop;
  if cardinality(v_events) > 1 and (v_answer -> 'flagged')::int = cardinality(v_events) then
    raise exception using errcode = v_state, message = v_message;
  end if;
  return v_answer;
end
$$;

-- sql/50_credits/00_tables.sql

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

-- sql/50_credits/allocate_credits.sql

-- Gives a user credits, or takes some by an adjustment, by an administrator's or a program's decision. What is given is a lot
-- of its own, which may expire. Returns {new_balance, transaction_id, account}.
--
-- Replay:  under a key of the user's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_credits.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, user_not_found, own_event, nonce_reused,
--          insufficient_credits.

create or replace function public.allocate_credits(
  p_user_id          uuid,
  p_account          text,
  p_amount           numeric,
  p_reason           text,
  p_transaction_type text default 'bonus',
  p_source           text default null,
  p_priority         int default null,
  p_expires_at       timestamptz default null,
  p_idempotency_key  text default null,
  p_actor            text default null,
  p_request_id       text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_answer jsonb;
begin
  select internal.single(o) into v_answer
    from internal.allocate_credits_batch(
           p_user_id, jsonb_build_array(jsonb_build_object(
             'user_id', p_account, 'amount', p_amount, 'source', p_source, 'priority', p_priority, 'expires_at', p_expires_at,
             'idempotency_key', p_idempotency_key)),
           p_reason, p_transaction_type, v_actor, p_request_id) as o;
  return v_answer - 'user_id' || jsonb_build_object('account', internal.credit_account((v_answer ->> 'user_id')::uuid));
end
$$;

-- sql/50_credits/allocate_credits_batch.sql

-- Gives credits to users, or takes some by an adjustment, each allocation by itself: {user_id (an id or an e-mail address),
-- amount, reason, source, priority, expires_at, idempotency_key}. What it answers or refuses stands in the allocation's place.
--
-- Replay:  under a key of the user's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_credits of all who get or lose any.
-- Refuses: invalid_body, reason_required, invalid_amount, user_not_found, own_event, nonce_reused, insufficient_credits.

create or replace function internal.allocate_credits_batch(
  p_user_id          uuid,
  p_allocations      jsonb,
  p_reason           text,
  p_transaction_type text,
  p_actor            text,
  p_request_id       text
)
returns setof internal.outcome
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_users uuid[];
  v_entries jsonb;  -- the allocations as they are understood, each with its refusal
  v_new int[];      -- those that are neither refused nor replays
  v_sign int;
  v_set int[];
  v_moves internal.credit_movement[];
  v_moved jsonb := jsonb_build_array();
begin
  if p_transaction_type is null or p_transaction_type not in ('bonus', 'purchase', 'adjustment', 'allocation') then
    perform internal.refuse('invalid_body', 'transaction_type: must be bonus, purchase, adjustment or allocation');
  end if;

  v_users := internal.users_of_accounts(array(
    select a.entry ->> 'user_id' from jsonb_array_elements(p_allocations) with ordinality as a(entry, "position") order by a."position"));

  select jsonb_agg(to_jsonb(p) || jsonb_build_object(
           'hash', internal.request_hash(jsonb_build_object(
             'allocate', p_transaction_type, 'amount', trim_scale(p.amount), 'reason', p.reason, 'source', p.source,
             'priority', p.priority, 'expires_at', p.expires_at)),
           'refusal', case
             when jsonb_typeof(p.entry) <> 'object' then internal.refusal('invalid_body', 'allocations: each must be an object')
             when coalesce(p.reason, '') !~ '\S' then internal.refusal('reason_required', 'reason: must say why')
             when p.amount is null or p.amount = 0 then internal.refusal('invalid_amount', 'amount: must be a number other than zero')
             when p.amount < 0 and p_transaction_type <> 'adjustment' then
               internal.refusal('invalid_amount', 'amount: must be greater than zero; only an adjustment takes credits')
             when scale(trim_scale(p.amount)) > 6 then internal.refusal('invalid_amount', 'amount: must have at most six decimal places')
             when abs(p.amount) > 1000000000 then internal.refusal('invalid_amount', 'amount: must be at most 1000000000')
             when p.source !~ '^[a-z][a-z_]{0,62}$' then
               internal.refusal('invalid_body', 'source: must be a word of small letters and underscores')
             when p.priority is null and p.entry ->> 'priority' is not null then
               internal.refusal('invalid_body', 'priority: must be a whole number')
             when p.expires_at is null and p.entry ->> 'expires_at' is not null then
               internal.refusal('invalid_body', 'expires_at: must be a time')
             when length(p.idempotency_key) not between 1 and 200 then
               internal.refusal('invalid_body', 'idempotency_key: must have 1 to 200 characters')
             when internal.is_system_key(p.idempotency_key) then
               internal.refusal('invalid_body', 'idempotency_key: must not begin with purchase: or allocation:')
             when p.user_id is null then
               internal.refusal('user_not_found', format('account: nobody is known as %s', coalesce(p.entry ->> 'user_id', 'null')))
             when p.user_id = p_user_id then
               internal.refusal('own_event', 'account: nobody allocates credits to themselves')
           end))
    into v_entries
    from (
      select a."position", a.entry, v_users[a."position"] as user_id,
             case when jsonb_typeof(a.entry -> 'amount') = 'number' or a.entry ->> 'amount' ~ '^-?\d{1,18}(\.\d{1,18})?$'
                  then (a.entry ->> 'amount')::numeric end as amount,
             coalesce(a.entry ->> 'reason', p_reason) as reason, a.entry ->> 'source' as source,
             case when a.entry ->> 'priority' ~ '^-?\d{1,9}$' then (a.entry ->> 'priority')::int end as priority,
             internal.parsed_time(a.entry ->> 'expires_at') as expires_at, a.entry ->> 'idempotency_key' as idempotency_key
        from jsonb_array_elements(p_allocations) with ordinality as a(entry, "position")) as p;

  v_users := array(
    select distinct e.user_id from jsonb_to_recordset(v_entries) as e(user_id uuid, refusal jsonb) where e.refusal is null);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  -- Of those under one key in this call, the first counts. No account ever gets more than its columns hold, and room is left
  -- for what comes by other ways. What was done stays done, also when what it brought has ended since.
  select array_agg(n."position") filter (where n.is_first and not n.is_too_much),
         jsonb_agg(to_jsonb(n) || jsonb_build_object('refusal', case
           when n.is_late then internal.refusal('invalid_body', 'expires_at: must lie in the future')
           when n.is_first and n.is_too_much then internal.refusal('invalid_amount', 'amount: no account holds as much')
           else n.refusal end) order by n."position")
    into v_new, v_entries
    from (
      select e.*, l.is_late, e.refusal is null and t.id is null and not l.is_late and row_number() over (
               partition by e.refusal is null, l.is_late, e.user_id, e.idempotency_key is null,
                            coalesce(e.idempotency_key, e."position"::text)
               order by e."position") = 1 as is_first,
             (c.credits_allocated > 900000000000 - sum(e.amount) filter (where e.refusal is null and e.amount > 0) over (
               partition by e.user_id order by e."position")) is true as is_too_much
        from jsonb_to_recordset(v_entries) as e(
               "position" int, user_id uuid, amount numeric, reason text, source text, priority int, expires_at timestamptz,
               idempotency_key text, hash text, refusal jsonb, entry jsonb)
        left join lateral (select x.credits_allocated from public.user_credits as x where x.user_id = e.user_id limit 1) as c on true
        left join lateral (
             select x.id from public.credit_transactions as x
              where x.user_id = e.user_id and x.idempotency_key = e.idempotency_key limit 1) as t on true
       cross join lateral (
             select (e.refusal is null and t.id is null and e.expires_at <= v_now) is true as is_late) as l) as n;

  -- A set of movements has one direction: what comes is there for what goes.
  foreach v_sign in array array[1, -1] loop
    select array_agg(e."position" order by e."position"),
           array_agg(internal.credit_move(
             e.user_id, e.amount, p_transaction_type, p_reason => e.reason, p_idempotency_key => e.idempotency_key,
             p_request_hash => e.hash, p_actor => p_actor, p_request_id => p_request_id, p_source => e.source,
             p_priority => e.priority, p_expires_at => e.expires_at) order by e."position")
      into v_set, v_moves
      from jsonb_to_recordset(v_entries) as e(
             "position" int, user_id uuid, amount numeric, reason text, source text, priority int, expires_at timestamptz,
             idempotency_key text, hash text)
     where e."position" = any (v_new) and sign(e.amount) = v_sign;
    if v_set is not null then
      v_moved := v_moved || (
        select coalesce(jsonb_agg(jsonb_build_object('position', v_set[o."position"], 'id', o.id))
                        filter (where o.outcome = 'posted'), '[]')
          from internal.move_credits(v_moves) as o);
    end if;
  end loop;

  perform internal.audit(
            p_actor, 'credits.allocate', 'user', t.user_id::text, t.reason,
            jsonb_build_object('balance', internal.credits_json(t.balance_after - t.amount)),
            jsonb_build_object('balance', internal.credits_json(t.balance_after), 'amount', internal.credits_json(t.amount),
              'transaction_type', t.transaction_type, 'transaction_id', t.id), p_request_id)
     from jsonb_to_recordset(v_moved) as m("position" int, id uuid)
     join jsonb_to_recordset(v_entries) as e("position" int, user_id uuid) on e."position" = m."position"
    cross join lateral (select x.* from public.credit_transactions as x where x.user_id = e.user_id and x.id = m.id limit 1) as t;

  return query
    select e."position",
           case when e.refusal is null and t.request_hash = e.hash then
             jsonb_build_object('user_id', e.user_id, 'transaction_id', t.id, 'new_balance', internal.credits_json(t.balance_after))
               || case when m.id is null then '{"replayed": true}' else '{}' end::jsonb end,
           case when e.refusal is not null then e.refusal
                when t.id is null then internal.refusal('insufficient_credits', format(
                  'Insufficient credits. Balance: %s, Required: %s', internal.credits_text(coalesce((
                    select (a.balance - a.held - a.floor) / 1000000.0 from ledger.accounts as a
                     where a.book_id = e.user_id and a.account = 'credits'), 0)), internal.credits_text(-e.amount)))
                when t.request_hash is distinct from e.hash
                  then internal.refusal('nonce_reused', 'idempotency_key: it came with another request before') end
      from jsonb_to_recordset(v_entries) as e(
             "position" int, user_id uuid, amount numeric, idempotency_key text, hash text, refusal jsonb)
      left join jsonb_to_recordset(v_moved) as m("position" int, id uuid) on m."position" = e."position"
      left join lateral (
           select x.id, x.request_hash, x.balance_after from public.credit_transactions as x
            where x.user_id = e.user_id and x.id = m.id
           union all
           select x.id, x.request_hash, x.balance_after from public.credit_transactions as x
            where m.id is null and x.user_id = e.user_id and x.idempotency_key = e.idempotency_key
           limit 1) as t on true
     order by e."position";
end
$$;

-- sql/50_credits/allocate_monthly_credits.sql

-- Gives their tier's monthly credits to at most p_limit users whose month has begun: a lot that ends when the next one comes.
-- Returns {"allocated": users, "credits": n}. A month begins on the day of the month when the first did, or where a month is
-- too short for that on its last, and on that day from then on. Months that were missed are not made up: however late it is,
-- one allocation comes, and the next on the first due day still ahead. Tiers without monthly credits get none, and are no
-- longer due.
--
-- Replay:  one allocation a due day, under the key 'allocation:<day>'; on the same day another one comes only to who has
--          moved into a tier of more, under 'allocation:<day>:<tier>'.
-- Locks:   internal.lock_credits of all of them.
-- Refuses: nothing.

create or replace function public.allocate_monthly_credits(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_users uuid[];
  v_given jsonb;
  v_moves internal.credit_movement[];
begin
  v_users := array(
    select c.user_id from public.user_credits as c where c.allocation_due_at <= v_now order by c.allocation_due_at limit p_limit);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  -- Another one may have given them meanwhile: they are due no more. A key that stands for something else costs
  -- nobody their month.
  select jsonb_agg(to_jsonb(d)) into v_given
    from (
      select c.user_id, n.next_at, t.monthly_credits as credits, t.monthly_credits > coalesce(x.most, 0) as is_given,
             (select k.key from unnest(k.keys) as k(key) where not k.key = any (coalesce(x.taken, '{}')) order by k.key limit 1) as key
        from public.user_credits as c
        left join public.pricing_tiers as t on t.version = internal.pricing_version() and t.tier = c.tier
       cross join lateral (
             select array[d.day, d.day || ':' || c.tier] as keys
               from (select 'allocation:' || to_char(c.allocation_due_at, 'YYYY-MM-DD') as day) as d) as k
       cross join lateral (select extract(year from a.late) * 12 + extract(month from a.late) as months
                             from (select age(v_now, c.allocation_due_at) as late) as a) as l
       cross join lateral (
             select min(s.at) as next_at
               from (select c.allocation_due_at + make_interval(months => m.n) as at
                       from generate_series(l.months::int, l.months::int + 2) as m(n)) as s
              where s.at > v_now) as n
       cross join lateral (
             select max(y.amount) filter (where y.transaction_type = 'allocation') as most, array_agg(y.idempotency_key) as taken
               from public.credit_transactions as y
              where y.user_id = c.user_id and y.idempotency_key = any (k.keys)) as x
       where c.user_id = any (v_users) and c.allocation_due_at <= v_now) as d;

  v_moves := array(
    select internal.credit_move(
             g.user_id, g.credits, 'allocation', p_reason => 'The month''s credits', p_actor => 'system',
             p_idempotency_key => g.key, p_expires_at => g.next_at)
      from jsonb_to_recordset(v_given) as g(user_id uuid, credits numeric, key text, next_at timestamptz, is_given boolean)
     where g.is_given);
  perform from internal.move_credits(v_moves);

  update public.user_credits as c
     set last_reset        = case when g.is_given then v_now else c.last_reset end,
         allocation_due_at = case when g.credits > 0 then g.next_at end,
         updated_at        = v_now
    from jsonb_to_recordset(v_given) as g(user_id uuid, credits numeric, next_at timestamptz, is_given boolean)
   where c.user_id = g.user_id;

  return (
    select jsonb_build_object('allocated', count(*), 'credits', internal.credits_json(coalesce(sum(m.amount), 0)))
      from unnest(v_moves) as m);
end
$$;

-- sql/50_credits/bulk_allocate_credits.sql

-- Gives credits to up to 1,000 users at once: an array of {user_id (an id or an e-mail address), amount, reason, source,
-- priority, expires_at, idempotency_key}, of which the first two are needed. Each is done or refused by itself. Returns
-- {success_count, failed_count, results, accounts}; results tells of each, in order and counted from 1, {position, user_id as it
-- came, and transaction_id, new_balance or code, detail}.
--
-- Replay:  an allocation under a key of its user's is answered as the first time, with "replayed"; one without a key is a new one.
-- Locks:   internal.lock_credits of all of them.
-- Refuses: forbidden, invalid_body; in place: reason_required, invalid_amount, invalid_body, user_not_found, own_event,
--          nonce_reused, insufficient_credits.

create or replace function public.bulk_allocate_credits(
  p_user_id          uuid,
  p_allocations      jsonb,
  p_reason           text default null,
  p_transaction_type text default 'bonus',
  p_actor            text default null,
  p_request_id       text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_outcomes internal.outcome[];
begin
  if p_allocations is null or jsonb_typeof(p_allocations) <> 'array' then
    perform internal.refuse('invalid_body', 'allocations: must be an array');
  elsif jsonb_array_length(p_allocations) not between 1 and 1000 then
    perform internal.refuse('invalid_body', 'allocations: must be 1 to 1000');
  end if;

  v_outcomes := array(
    select o from internal.allocate_credits_batch(p_user_id, p_allocations, p_reason, p_transaction_type, v_actor, p_request_id) as o);

  return (
    select jsonb_build_object(
             'success_count', count(o.answer), 'failed_count', count(o.refusal),
             'results', jsonb_agg(
               jsonb_build_object('position', o."position", 'user_id', p_allocations -> (o."position" - 1) -> 'user_id')
                 || coalesce(o.answer - 'user_id', jsonb_build_object('code', o.refusal -> 'code', 'detail', o.refusal -> 'detail'))
               order by o."position"),
             'accounts', coalesce((
               select jsonb_agg(internal.credit_account(u.user_id))
                 from (select distinct (x.answer ->> 'user_id')::uuid as user_id from unnest(v_outcomes) as x where x.answer is not null) as u), '[]'))
      from unnest(v_outcomes) as o);
end
$$;

-- sql/50_credits/calculate_credit_cost.sql

-- What a use of a model would cost: {"cost"}. A user pays their own tier's markup, who is nobody the free tier's, unless
-- p_tier says at which tier to reckon.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_amount (tokens: not told, fewer than none, more than can be charged), unknown_tier.

create or replace function public.calculate_credit_cost(
  p_user_id     uuid,
  p_tokens_used bigint,
  p_model       text,
  p_power_level text default 'balanced',
  p_provider    text default null,
  p_tier        text default null
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_version int := internal.pricing_version();
  v_tier text := p_tier;
begin
  if p_tokens_used is null or p_tokens_used < 0 then
    perform internal.refuse('invalid_amount', 'tokens_used: must be 0 or more');
  end if;
  if p_tier is not null and not exists (
       select from public.pricing_tiers as t where t.version = v_version and t.tier = p_tier) then
    perform internal.refuse('unknown_tier', format('tier: there is no %s', p_tier));
  end if;
  if v_tier is null and p_user_id is not null then
    perform internal.act_for(array[p_user_id]);
    select c.tier into v_tier from public.user_credits as c where c.user_id = p_user_id;
  end if;
  return jsonb_build_object('cost', internal.credits_json((
    internal.credit_cost(p_tokens_used, p_model, p_provider, p_power_level, coalesce(v_tier, 'free'), v_version)).cost));
end
$$;

-- sql/50_credits/changed_price_list.sql

-- A price list with what p_changes says of it instead: {"models": {"gpt-x": 0.02, "old": null}, "providers": {…},
-- "power_levels": {"eco": {"cost_multiplier": 0.2}}, "tiers": {…}, "default_price": 0.01}. Null takes a model, a provider
-- or a power level out. What stays: the power level balanced, which unknown ones count as; every tier, because users have
-- them; and whether a tier is unlimited, because their accounts may owe by it.
--
-- Refuses: invalid_body (changes, with the path of the fault).

create or replace function internal.changed_price_list(p_list jsonb, p_changes jsonb)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_fault text;
  v_list jsonb;
begin
  if jsonb_typeof(p_changes) is distinct from 'object' then
    perform internal.refuse('invalid_body', 'changes: must be an object');
  end if;

  with must (part, field, type, least, most, places, or_null) as (
    values
      ('default_price', '',                     'number', 0,        999999999,    9, false),
      ('models',        '',                     'number', 0,        999999999,    9, true),
      ('providers',     '',                     'number', 0,        999999999,    9, true),
      ('power_levels',  'cost_multiplier',      'number', 0,        10000,        4, false),
      ('power_levels',  'max_tokens',           'number', 1,        2147483647,   0, false),
      ('power_levels',  'temperature',          'number', 0,        2,            2, false),
      ('power_levels',  'max_cost_per_request', 'number', 0.000001, 100000000000, 6, true),
      ('power_levels',  'quality',              'number', 0,        1,            2, false),
      ('power_levels',  'latency',              'string', null,     null,         null, false),
      ('power_levels',  'preferred_providers',  'array',  null,     null,         null, false),
      ('tiers',         'markup',               'number', 0,        10000,        4, false),
      ('tiers',         'monthly_credits',      'number', 0,        100000000000, 6, true),
      ('tiers',         'rollover_max',         'number', 0,        100000000000, 6, false),
      ('tiers',         'low_balance_below',    'number', 0,        100000000000, 6, false),
      ('tiers',         'position',             'number', 0,        1000000,      0, false)
  ), part as (
    select p.key as part, p.value, jsonb_typeof(p.value) as type from jsonb_each(p_changes) as p
  ), entry as (
    select p.part, p.part || '.' || e.key as path, e.key as name, e.value, jsonb_typeof(e.value) as type,
           p_list #> array[p.part, e.key] as before
      from part as p
     cross join lateral jsonb_each(case p.type when 'object' then p.value else '{}' end) as e
     where p.part in ('models', 'providers', 'power_levels', 'tiers')
  ), field as (
    select p.part, '' as field, p.part as path, p.value from part as p where p.part = 'default_price'
    union all
    select e.part, '', e.path, e.value from entry as e where e.part in ('models', 'providers')
    union all
    select e.part, f.key, e.path || '.' || f.key, f.value
      from entry as e
     cross join lateral jsonb_each(case e.type when 'object' then e.value else '{}' end) as f
     where e.part in ('power_levels', 'tiers')
  ), fault (path, fault) as (
    select p.part, 'is no part of a price list' from part as p where not exists (select from must as m where m.part = p.part)
    union all
    select p.part, 'must be an object' from part as p where p.part <> 'default_price' and p.type <> 'object'
    union all
    select e.path, 'is no name for one' from entry as e
     where e.name !~ case e.part when 'models' then '^\S{1,200}$' when 'providers' then '^\S{1,100}$' else '^[a-z][a-z_]*$' end
    union all
    select e.path, 'must be an object' from entry as e where e.part in ('power_levels', 'tiers') and e.type not in ('object', 'null')
    union all
    select e.path, 'is not taken out' from entry as e where e.type = 'null' and (e.part = 'tiers' or e.path = 'power_levels.balanced')
    union all
    select e.path || '.' || m.field, 'must be given with a new one'
      from entry as e
      join must as m on m.part = e.part and m.field not in ('max_cost_per_request', 'rollover_max', 'low_balance_below')
     where e.part in ('power_levels', 'tiers') and e.type = 'object' and e.before is null and not e.value ? m.field
    union all
    select e.path || '.monthly_credits', 'a tier stays limited or unlimited, as it is'
      from entry as e
     where e.part = 'tiers' and e.type = 'object' and e.value ? 'monthly_credits'
       and (e.before ->> 'monthly_credits' is null) <> (e.value ->> 'monthly_credits' is null) and e.before is not null
    union all
    select f.path,
           case when m.part is null then 'there is no such member'
                when m.type = 'number' then format('must be a number from %s to %s with at most %s decimal places', m.least, m.most, m.places)
                else format('must be %s', case m.type when 'array' then 'a list of names' else 'a word' end) end
      from field as f
      left join must as m on m.part = f.part and m.field = f.field
     cross join lateral (
           select case jsonb_typeof(f.value) when 'number' then f.value::numeric end as number) as n
     where case
             when m.part is null then true
             when jsonb_typeof(f.value) = 'null' then not m.or_null
             when jsonb_typeof(f.value) <> m.type then true
             when m.type = 'number' then n.number not between m.least and m.most or scale(trim_scale(n.number)) > m.places
             when m.type = 'string' then f.value ->> 0 !~ '^\S{1,100}$'
             else jsonb_path_exists(f.value, '$[*] ? (@.type() != "string")')
           end
  )
  select format('changes.%s: %s', f.path, f.fault) into v_fault from fault as f order by f.path, f.fault limit 1;
  if v_fault is not null then
    perform internal.refuse('invalid_body', v_fault);
  end if;

  with entry as (
    select s.part, n.name, p_list #> array[s.part, n.name] as before, p_changes #> array[s.part, n.name] as change, s.usual
      from (values ('models', null), ('providers', null), ('power_levels', '{"max_cost_per_request": null}'::jsonb),
                   ('tiers', '{"rollover_max": 0, "low_balance_below": 100}')) as s(part, usual)
     cross join lateral (
           select jsonb_object_keys(p_list -> s.part) as name union select jsonb_object_keys(p_changes -> s.part)) as n
  ), part as (
    select e.part, jsonb_object_agg(e.name, case when e.usual is null then coalesce(e.change, e.before)
                                            else coalesce(e.before, e.usual) || coalesce(e.change, '{}') end) as value
      from entry as e
     where jsonb_typeof(e.change) is distinct from 'null'
     group by e.part
  )
  select jsonb_build_object('default_price', coalesce(p_changes -> 'default_price', p_list -> 'default_price'),
           'models', '{}'::jsonb, 'providers', '{}'::jsonb) || jsonb_object_agg(p.part, p.value)
    into v_list
    from part as p;
  return v_list;
end
$$;

-- sql/50_credits/charge_use.sql

-- Charges one use: what internal.move_credits does with a set of one use, which is nearly every set. A few short statements
-- cost less than the one that handles sets and everything else that moves credits.
--
-- Replay:  a movement whose transfer is in the book moves nothing again.
-- Locks:   none of its own.
-- Refuses: insufficient_funds, as an outcome.

create or replace function internal.charge_use(p_move internal.credit_movement)
returns internal.credit_moved
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_moved internal.credit_moved;
begin
  v_moved.position := 1;
  v_moved.id := p_move.id;
  v_moved.outcome := 'posted';

  if p_move.amount < 0 then
    v_moved.outcome := (ledger.post_one(row(p_move.id, p_move.user_id, 'credits', 'credits.used', (-p_move.amount * 1000000)::bigint,
      p_move.transaction_type, 'credit_transaction', p_move.id, p_move.created_at)::ledger.posting)).outcome;
    if v_moved.outcome <> 'posted' then
      return v_moved;
    end if;

    with stock as (
      select g.grant_id, g.remaining, g.ctid as place,
             sum(g.remaining) over (order by g.priority, g.expires_at, g.created_at, g.grant_id) as until
        from public.credit_grants as g
       where g.user_id = p_move.user_id and g.is_open
    ), taken as materialized (
      select s.grant_id, s.place, s.remaining - greatest(0, s.until + p_move.amount) as amount
        from stock as s
       where s.until - s.remaining < -p_move.amount
    ), changed as (
      -- By the place where it was found: looked for again, all lots that the user ever had could be read.
      update public.credit_grants as g
         set remaining = g.remaining - t.amount
        from taken as t
       where g.ctid = t.place
    )
    insert into public.credit_lot_entries (user_id, transaction_id, grant_id, amount)
    select p_move.user_id, p_move.id, t.grant_id, -t.amount from taken as t;
  end if;

  update public.user_credits as c
     set balance = c.balance + p_move.amount, version = c.version + 1, updated_at = v_now
   where c.user_id = p_move.user_id
  returning c.balance into v_moved.balance_after;
  if not found then
    insert into public.user_credits as c (user_id, balance, version, updated_at)
    values (p_move.user_id, p_move.amount, 1, v_now)
    returning c.balance into v_moved.balance_after;
  end if;

  insert into public.credit_transactions (
         user_id, id, amount, balance_after, transaction_type, reason, provider, model, power_level, tokens_used, cost, metadata,
         refund_of, idempotency_key, request_hash, actor, request_id, created_at)
  values (p_move.user_id, p_move.id, p_move.amount, v_moved.balance_after, p_move.transaction_type, p_move.reason, p_move.provider,
          p_move.model, p_move.power_level, p_move.tokens_used, p_move.cost, p_move.metadata, p_move.refund_of,
          p_move.idempotency_key, p_move.request_hash, p_move.actor, p_move.request_id, p_move.created_at);
  return v_moved;
end
$$;

-- sql/50_credits/check_encrypted.sql

-- Refuses a key that does not come encrypted: it would stand there for everybody to read who reads a backup.
-- Both null is nothing to store.

create or replace function internal.check_encrypted(p_encrypted text, p_key_id text)
returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if (p_encrypted is null) <> (p_key_id is null) or length(p_encrypted) not between 100 and 4000
     or p_encrypted !~ '^gAAAA[A-Za-z0-9_=-]+$' or p_key_id !~ '^[0-9a-f]{12}$' then
    perform internal.refuse('invalid_body', 'The key does not come encrypted under a key with an id.');
  end if;
end
$$;

-- sql/50_credits/compare_tiers.sql

-- The tiers, from the smallest to the largest: what each adds to a price, gives every month and keeps for another, and what
-- the same use of a model would cost in it. A tier whose monthly credits are null is unlimited.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_amount (tokens: not told, fewer than none, more than can be charged).

create or replace function public.compare_tiers(
  p_user_id     uuid,
  p_tokens_used bigint default 1000,
  p_model       text default 'gpt-4o',
  p_power_level text default 'balanced'
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_version int := internal.pricing_version();
  v_tier text;
begin
  if p_tokens_used is null or p_tokens_used < 0 then
    perform internal.refuse('invalid_amount', 'tokens_used: must be 0 or more');
  end if;
  if p_user_id is not null then
    perform internal.act_for(array[p_user_id]);
    select c.tier into v_tier from public.user_credits as c where c.user_id = p_user_id;
  end if;
  v_tier := coalesce(v_tier, 'free');
  return jsonb_build_object('current', v_tier, 'tiers', (
    select jsonb_agg(jsonb_build_object(
             'tier', t.tier, 'markup', internal.credits_json(t.markup), 'multiplier', internal.credits_json(1 + t.markup),
             'monthly_credits', internal.credits_json(t.monthly_credits), 'unlimited', t.monthly_credits is null,
             'rollover_max', internal.credits_json(t.rollover_max), 'cost', internal.credits_json(c.cost),
             'is_current', t.tier = v_tier) order by t.position, t.tier)
      from public.pricing_tiers as t
     cross join lateral internal.credit_cost(p_tokens_used, p_model, null, p_power_level, t.tier, v_version) as c
     where t.version = v_version));
end
$$;

-- sql/50_credits/create_promotion.sql

-- Makes a promotional code. Administrators only. Returns the promotion with its status.
--
-- Replay:  the same promotion again is answered as it now is, with "replayed"; one without a time to begin began when it was made.
-- Locks:   the code.
-- Refuses: forbidden, invalid_body, unknown_tier, promotion_exists: the code is taken by another one, or is switched off.

create or replace function public.create_promotion(
  p_user_id                   uuid,
  p_code                      text,
  p_discount_type             text,
  p_discount_value            numeric,
  p_description               text default null,
  p_max_uses                  int default null,
  p_max_uses_per_user         int default 1,
  p_tier                      text default null,
  p_credits_expire_after_days int default null,
  p_valid_from                timestamptz default null,
  p_expires_at                timestamptz default null,
  p_actor                     text default null,
  p_request_id                text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_code text := internal.promotion_code(p_code);
  v_value numeric := round(p_discount_value, 6);
  v_per_user int := coalesce(p_max_uses_per_user, 1);
  v_promotion public.coupon_codes;
  v_is_new boolean;
begin
  perform internal.refuse('invalid_body', f.fault)
     from (values
             (1, coalesce(v_code, '') !~ '^\S{3,64}$',       'code: must be 3 to 64 characters without blanks'),
             (2, coalesce(p_discount_type, '') not in ('fixed', 'percentage', 'free_month', 'bonus'),
                                                             'discount_type: must be fixed, percentage, free_month or bonus'),
             (3, (v_value > 0 and v_value < 1e11) is not true, 'discount_value: must be greater than zero and less than 10^11'),
             (4, p_discount_type = 'percentage' and v_value > 100, 'discount_value: must be at most 100 percent'),
             (5, p_discount_type = 'free_month' and (v_value <> trunc(v_value) or v_value > 120),
                                                             'discount_value: must be 1 to 120 whole months'),
             (6, p_max_uses < 1,                             'max_uses: must be at least 1'),
             (7, v_per_user < 1,                             'max_uses_per_user: must be at least 1'),
             (8, p_credits_expire_after_days not between 1 and 36500, 'credits_expire_after_days: must be 1 to 36500'),
             (9, p_expires_at <= p_valid_from,               'expires_at: must be after valid_from')) as f(position, is_wrong, fault)
    where f.is_wrong
    order by f.position;
  if p_tier is not null then
    perform from public.pricing_tiers as t where t.version = internal.pricing_version() and t.tier = p_tier;
    if not found then
      perform internal.refuse('unknown_tier', format('tier: %s', p_tier));
    end if;
  end if;

  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.request_id', coalesce(p_request_id, ''), true);
  insert into public.coupon_codes as c (
         code, discount_type, discount_value, description, max_uses, max_uses_per_user, tier, credits_expire_after_days,
         valid_from, expires_at, created_by)
  values (v_code, p_discount_type, v_value, p_description, p_max_uses, v_per_user, p_tier, p_credits_expire_after_days,
          coalesce(p_valid_from, internal.clock()), p_expires_at, v_actor)
  on conflict (code) do nothing
  returning c.* into v_promotion;
  v_is_new := found;

  if not v_is_new then
    select c.* into v_promotion from public.coupon_codes as c where c.code = v_code;
    if (v_promotion.discount_type, v_promotion.discount_value, v_promotion.description, v_promotion.max_uses, v_promotion.max_uses_per_user,
        v_promotion.tier, v_promotion.credits_expire_after_days, v_promotion.valid_from, v_promotion.expires_at, v_promotion.is_active)
       is distinct from
       (p_discount_type, v_value, p_description, p_max_uses, v_per_user,
        p_tier, p_credits_expire_after_days, coalesce(p_valid_from, v_promotion.valid_from), p_expires_at, true) then
      perform internal.refuse('promotion_exists', format('code: %s', v_code));
    end if;
  end if;
  return internal.promotion_answer(v_promotion) || jsonb_build_object('replayed', not v_is_new);
end
$$;

-- sql/50_credits/credit_account.sql

-- A user's balance, tier and cap after a change, with the change's number: what a cache may keep, and for whom. Every answer of a
-- procedure that changes any of them brings it along. It says whose it is: an administrator's is called for somebody else.

create or replace function internal.credit_account(p_user_id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_account jsonb;
begin
  select jsonb_build_object('user_id', c.user_id, 'balance', internal.credits_json(c.balance), 'tier', c.tier,
           'monthly_cap', internal.credits_json(c.monthly_cap), 'version', c.version)
    into v_account
    from public.user_credits as c
   where c.user_id = p_user_id;
  return coalesce(v_account, jsonb_build_object('user_id', p_user_id, 'balance', 0.0, 'tier', 'free', 'monthly_cap', null, 'version', 0));
end
$$;

-- sql/50_credits/credit_analytics_distribution.sql

-- How the balances are distributed, for an administrator: in all and by tier, how many users there are, quantiles, and how
-- many lie between one power of ten and the next. A range begins after its `above` and ends with its `up_to`; who has
-- nothing, and who owes, are ranges of their own.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden.

create or replace function public.credit_analytics_distribution(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_answer jsonb;
begin
  perform internal.actor(p_user_id);

  with range as (
    select b.position, b.above, lead(b.above) over (order by b.position) as up_to
      from unnest(array[null, -0.000001, 0, 1, 10, 100, 1000, 10000, 100000]::numeric[]) with ordinality as b(above, position)
  ), balance as (
    select c.tier, c.balance,
           width_bucket(c.balance - 0.000001, array[-0.000001, 0, 1, 10, 100, 1000, 10000, 100000]::numeric[]) + 1 as position
      from public.user_credits as c
  ), described as (
    select b.tier, grouping(b.tier) = 1 as is_all, count(*) as users, sum(b.balance) as total,
           percentile_disc(array[0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) within group (order by b.balance) as quantiles
      from balance as b
     group by grouping sets ((), (b.tier))
  ), counted as (
    select b.tier, grouping(b.tier) = 1 as is_all, b.position, count(*) as users
      from balance as b
     group by grouping sets ((b.position), (b.tier, b.position))
  ), told as (
    select d.tier, d.is_all, jsonb_build_object(
             'users', d.users, 'balance', internal.credits_json(coalesce(d.total, 0)),
             'quantiles', (select jsonb_object_agg(q.name, internal.credits_json(d.quantiles[q.place]))
                             from unnest(array['p10', 'p25', 'p50', 'p75', 'p90', 'p99']) with ordinality as q(name, place)),
             'histogram', (select coalesce(jsonb_agg(jsonb_build_object(
                                    'above', internal.credits_json(r.above),
                                    'up_to', internal.credits_json(r.up_to), 'users', c.users) order by r.position), '[]')
                             from counted as c
                             join range as r on r.position = c.position
                            where c.is_all = d.is_all and c.tier is not distinct from d.tier)) as answer
      from described as d
  )
  select (select t.answer from told as t where t.is_all)
         || jsonb_build_object('by_tier', coalesce((
              select jsonb_agg(jsonb_build_object('tier', t.tier) || t.answer order by p.position, t.tier)
                from told as t
                left join public.pricing_tiers as p on p.version = internal.pricing_version() and p.tier = t.tier
               where not t.is_all), '[]'))
    into v_answer;
  return v_answer;
end
$$;

-- sql/50_credits/credit_analytics_system.sql

-- What everybody has and used, for an administrator: users and balances, in all and by tier, and usage in all, by month and
-- by model. The usage is that of whole months in UTC: all that the time from p_start_date until p_end_date touches. `from`
-- and `to` are their first day and their last.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.credit_analytics_system(p_user_id uuid, p_start_date timestamptz default null, p_end_date timestamptz default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_from date := date_trunc('month', p_start_date)::date;
  v_until date := (date_trunc('month', p_end_date - interval '1 microsecond') + interval '1 month')::date;
  v_answer jsonb;
begin
  perform internal.actor(p_user_id);
  if p_end_date < p_start_date then
    perform internal.refuse('invalid_body', 'end_date: must not lie before start_date');
  end if;

  with tier as materialized (
    select c.tier, count(*) as users, sum(c.balance) as balance, sum(c.credits_allocated) as allocated
      from public.user_credits as c
     group by c.tier
  ), used as materialized (
    select u.month, u.provider, u.model, u.events, u.failures, u.tokens, u.cost, u.refunded
      from internal.usage_by_month as u
     where u.month >= coalesce(v_from, '-infinity') and u.month < coalesce(v_until, 'infinity')
  ), month as (
    select u.month, sum(u.events) as events, sum(u.failures) as failures, sum(u.tokens) as tokens, sum(u.cost) as cost,
           sum(u.refunded) as refunded
      from used as u
     group by u.month
  ), model as (
    select u.provider, u.model, sum(u.events) as events, sum(u.failures) as failures, sum(u.tokens) as tokens, sum(u.cost) as cost,
           sum(u.refunded) as refunded
      from used as u
     group by u.provider, u.model
  )
  select jsonb_build_object(
           'from', v_from, 'to', v_until - 1,
           'users', coalesce((select sum(t.users) from tier as t), 0),
           'balance', internal.credits_json(coalesce((select sum(t.balance) from tier as t), 0)),
           'allocated', internal.credits_json(coalesce((select sum(t.allocated) from tier as t), 0)),
           'spent', internal.credits_json(coalesce((select sum(m.cost - m.refunded) from month as m), 0)),
           'by_tier', coalesce((
             select jsonb_agg(jsonb_build_object('tier', t.tier, 'users', t.users, 'balance', internal.credits_json(t.balance),
                                'allocated', internal.credits_json(t.allocated)) order by p.position, t.tier)
               from tier as t
               left join public.pricing_tiers as p on p.version = internal.pricing_version() and p.tier = t.tier), '[]'),
           'usage', jsonb_build_object(
             'events', coalesce((select sum(m.events) from month as m), 0),
             'failures', coalesce((select sum(m.failures) from month as m), 0),
             'tokens', coalesce((select sum(m.tokens) from month as m), 0),
             'cost', internal.credits_json(coalesce((select sum(m.cost) from month as m), 0)),
             'refunded', internal.credits_json(coalesce((select sum(m.refunded) from month as m), 0)),
             'by_month', coalesce((
               select jsonb_agg(jsonb_build_object('month', to_char(m.month, 'YYYY-MM'), 'events', m.events, 'failures', m.failures,
                                  'tokens', m.tokens, 'cost', internal.credits_json(m.cost),
                                  'refunded', internal.credits_json(m.refunded)) order by m.month)
                 from month as m), '[]'),
             'by_model', coalesce((
               select jsonb_agg(jsonb_build_object('provider', nullif(m.provider, ''), 'model', nullif(m.model, ''), 'events', m.events,
                                  'failures', m.failures, 'tokens', m.tokens, 'cost', internal.credits_json(m.cost),
                                  'refunded', internal.credits_json(m.refunded)) order by m.cost desc, m.model, m.provider)
                 from model as m), '[]')))
    into v_answer;
  return v_answer;
end
$$;

-- sql/50_credits/credit_analytics_top_spenders.sql

-- Whose usage cost most in a calendar month, in UTC, for an administrator: that in which p_month lies, or the running one.
-- What was refunded is taken off.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.credit_analytics_top_spenders(p_user_id uuid, p_month date default null, p_limit int default 10)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set jit = off
as $$
declare
  v_month date := date_trunc('month', coalesce(p_month, (internal.clock() at time zone 'UTC')::date))::date;
  v_answer jsonb;
begin
  perform internal.actor(p_user_id);
  if p_limit is null or p_limit not between 1 and 100 then
    perform internal.refuse('invalid_body', 'limit: must be between 1 and 100');
  end if;

  with top as (
    select r.user_id, sum(r.cost - r.refunded) as spent, sum(r.events) as events, sum(r.tokens) as tokens
      from public.usage_rollups as r
     where r.month = v_month
     group by r.user_id
     order by 2 desc, r.user_id
     limit p_limit
  )
  select jsonb_build_object('month', to_char(v_month, 'YYYY-MM'), 'spenders', coalesce(jsonb_agg(
           jsonb_build_object('user_id', t.user_id, 'tier', coalesce(c.tier, 'free'), 'spent', internal.credits_json(t.spent),
             'events', t.events, 'tokens', t.tokens, 'balance', internal.credits_json(coalesce(c.balance, 0)))
           order by t.spent desc, t.user_id), '[]'))
    into v_answer
    from top as t
    left join public.user_credits as c on c.user_id = t.user_id;
  return v_answer;
end
$$;

-- sql/50_credits/credit_balance.sql

-- What a user has: {balance, tier, monthly_cap}, and the last ten transactions when asked for. What is reserved is in the
-- balance; lots whose time is up are not, whether their expiry is posted yet or not.
--
-- Replay:  it changes nothing.
-- Locks:   none.
-- Refuses: nothing.

create or replace function public.credit_balance(p_user_id uuid, p_include_history boolean default false)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off  -- or all of a user's transactions are read for the last ten
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_credits public.user_credits;
  v_ended numeric := 0;
begin
  perform internal.act_for(array[p_user_id]);
  select c.* into v_credits from public.user_credits as c where c.user_id = p_user_id;
  if v_credits.lots_due_at <= v_now then
    v_ended := internal.ended_credits(p_user_id);
  end if;
  return jsonb_build_object(
           'balance', internal.credits_json(coalesce(v_credits.balance, 0) - v_ended), 'tier', coalesce(v_credits.tier, 'free'),
           'monthly_cap', internal.credits_json(v_credits.monthly_cap))
         || case when p_include_history then jsonb_build_object('history', coalesce((
              select jsonb_agg(internal.credit_transaction_json(t) order by t.created_at desc, t.id desc)
                from (select x.* from public.credit_transactions as x
                       where x.user_id = p_user_id order by x.created_at desc, x.id desc limit 10) as t), jsonb_build_array()))
            else jsonb_build_object('account', internal.credit_account(p_user_id)) end;
end
$$;

-- sql/50_credits/credit_cost.sql

-- What a use of a model costs: (tokens / 1000) x price x power level x tier, to the sixth decimal place. The price is the
-- model's own; else that of the provider who is named; else that of the provider who stands before the model's name
-- ('openai/gpt-x', 'openai:gpt-x'); else the default one. A power level that is not known counts as balanced, a tier that
-- is not known pays no markup. Tokens that nobody counted have a price and no cost.
--
-- Refuses: invalid_amount: more tokens than can be charged.

create or replace function internal.credit_cost(
  p_tokens_used bigint,
  p_model       text,
  p_provider    text,
  p_power_level text,
  p_tier        text,
  p_version     int default null
)
returns internal.credit_price
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_name text := regexp_replace(p_model, '/', ':');
  v_default numeric;
  v_multiplier numeric;
  v_cost numeric;
  v_price internal.credit_price;
begin
  v_price.pricing_version := coalesce(p_version, internal.pricing_version());
  select v.default_price into v_default from public.pricing_versions as v where v.version = v_price.pricing_version;

  select m.price_per_1k into v_price.price_per_1k
    from public.pricing_models as m where m.version = v_price.pricing_version and m.model = p_model;
  if not found then
    -- Of each way to name a provider the longest name is the nearest. 'openai' ends at the colon, so that 'local-hero' is
    -- no local model; what goes on after a colon ends where a word of the model's name does.
    select p.price_per_1k into v_price.price_per_1k
      from public.pricing_providers as p
     cross join lateral (values (1, p_provider || ':' || coalesce(v_name, '')), (2, v_name)) as n(nearness, name)
     where p.version = v_price.pricing_version
       and starts_with(n.name, p.provider)
       and (substr(n.name, length(p.provider) + 1, 1) in ('', ':')
            or substr(n.name, length(p.provider) + 1, 1) = '-' and strpos(p.provider, ':') > 0)
     order by n.nearness, length(p.provider) desc
     limit 1;
  end if;
  v_price.is_known := found;

  select l.power_level, l.cost_multiplier into v_price.power_level, v_multiplier
    from public.pricing_power_levels as l
   where l.version = v_price.pricing_version and l.power_level in (p_power_level, 'balanced')
   order by l.power_level = p_power_level desc
   limit 1;

  v_price.tier := p_tier;
  v_price.price_per_1k := coalesce(v_price.price_per_1k, v_default);
  -- Multiplied and never divided: that is exact, however many tokens there are.
  v_cost := round(p_tokens_used * 0.001 * v_price.price_per_1k * v_multiplier * (1 + coalesce((
    select t.markup from public.pricing_tiers as t where t.version = v_price.pricing_version and t.tier = p_tier), 0)), 6);
  if v_cost >= 1000000000000 then
    perform internal.refuse('invalid_amount', format('tokens_used: %s tokens cost more than can be charged', p_tokens_used));
  end if;
  v_price.cost := v_cost;
  return v_price;
end
$$;

-- sql/50_credits/credit_discrepancies.sql

-- Where credits disagree with themselves: the part of ledger.discrepancies that is theirs.

create or replace view internal.credit_discrepancies
with (security_invoker = true)
as
select 'I3' as invariant, coalesce(a.book_id, c.user_id) as book_id, 'balance in user_credits' as subject,
       (coalesce(a.balance, 0) / 1000000.0)::numeric(18, 6)::text as expected, coalesce(c.balance, 0)::text as actual
  from (select x.book_id, x.balance from ledger.accounts as x where x.account = 'credits') as a
  full join public.user_credits as c on c.user_id = a.book_id
 where coalesce(c.balance, 0) * 1000000 <> coalesce(a.balance, 0)
union all
-- An account that owes has no lots.
select 'I3', coalesce(c.user_id, g.user_id), 'sum of the lots', greatest(coalesce(c.balance, 0), 0)::text, coalesce(g.remaining, 0)::text
  from public.user_credits as c
  full join (select x.user_id, sum(x.remaining) as remaining from public.credit_grants as x group by x.user_id) as g on g.user_id = c.user_id
 where coalesce(g.remaining, 0) <> greatest(coalesce(c.balance, 0), 0)
union all
select 'I3', coalesce(g.user_id, e.user_id), 'lot ' || coalesce(g.grant_id, e.grant_id), coalesce(e.amount, 0)::text, coalesce(g.remaining, 0)::text
  from public.credit_grants as g
  full join (select x.user_id, x.grant_id, sum(x.amount) as amount from public.credit_lot_entries as x group by x.user_id, x.grant_id) as e
    on e.user_id = g.user_id and e.grant_id = g.grant_id
 where coalesce(g.remaining, 0) <> coalesce(e.amount, 0)
union all
select 'I1', coalesce(t.book_id, c.user_id), 'transaction ' || coalesce(t.transfer_id, c.id),
       (coalesce(t.amount, 0) / 1000000.0)::numeric(18, 6)::text, coalesce(c.amount, 0)::text
  from (select x.book_id, x.transfer_id, case when x.to_account = 'credits' then x.amount else -x.amount end as amount
          from ledger.transfers as x where x.asset = 'credits') as t
  full join public.credit_transactions as c on c.user_id = t.book_id and c.id = t.transfer_id
 where coalesce(c.amount, 0) * 1000000 <> coalesce(t.amount, 0)
union all
select 'I3', null, 'uses of promotion ' || coalesce(p.code, r.code), coalesce(r.uses, 0)::text, p.times_used::text
  from public.coupon_codes as p
  left join (select x.code, count(*) as uses from public.coupon_redemptions as x group by x.code) as r on r.code = p.code
 where p.times_used <> coalesce(r.uses, 0)
union all
select 'I1', r.user_id, 'redemption of ' || r.code, r.transaction_id::text, 'none'
  from public.coupon_redemptions as r
 where not exists (select from public.credit_transactions as t where t.user_id = r.user_id and t.id = r.transaction_id)
union all
-- What a movement is called says between which accounts it goes.
select 'I1', t.book_id, 'accounts of ' || t.transfer_id, format('%s with %s', c.transaction_type, c.account),
       format('%s with %s', t.kind, t.account)
  from (select x.book_id, x.transfer_id, x.kind, case when x.to_account = 'credits' then x.from_account else x.to_account end as account
          from ledger.transfers as x where x.asset = 'credits') as t
  join (select x.user_id, x.id, x.transaction_type,
               case x.transaction_type when 'usage' then 'credits.used' when 'refund' then 'credits.used'
                                       when 'purchase' then 'credits.sold' when 'expiry' then 'credits.expired'
                                       when 'adjustment' then 'credits.adjusted' else 'credits.granted' end as account
          from public.credit_transactions as x) as c on c.user_id = t.book_id and c.id = t.transfer_id
 where (t.kind, t.account) <> (c.transaction_type, c.account)
union all
select 'I1', r.user_id, 'refunds of ' || r.refund_of, 'at most ' || coalesce(-t.amount, 0), r.amount::text
  from (select x.user_id, x.refund_of, sum(x.amount) as amount
          from public.credit_transactions as x where x.refund_of is not null group by x.user_id, x.refund_of) as r
  left join public.credit_transactions as t on t.user_id = r.user_id and t.id = r.refund_of and t.transaction_type = 'usage'
 where r.amount > coalesce(-t.amount, 0)
union all
select 'I1', e.user_id, 'charge for usage ' || e.id, e.cost::text, coalesce((-t.amount)::text, 'none')
  from public.usage_events as e
  left join public.credit_transactions as t on t.user_id = e.user_id and t.id = e.transaction_id and t.transaction_type = 'usage'
 where e.transaction_id is not null and e.cost is distinct from -t.amount
union all
-- A lot is as large as what brought it; of a refund it is the part for which there was no older one.
select 'I3', g.user_id, 'size of lot ' || g.grant_id, coalesce(t.amount, 0)::text, g.amount::text
  from public.credit_grants as g
  left join public.credit_transactions as t on t.user_id = g.user_id and t.id = g.grant_id
 where g.amount > coalesce(t.amount, 0) or g.amount < t.amount and t.transaction_type <> 'refund' or g.remaining > g.amount
union all
select 'I3', c.user_id, 'credits that ever came', coalesce(t.amount, 0)::text, c.credits_allocated::text
  from public.user_credits as c
  left join (select x.user_id, sum(x.amount) as amount
               from public.credit_transactions as x where x.amount > 0 and x.transaction_type <> 'refund' group by x.user_id) as t
    on t.user_id = c.user_id
 where c.credits_allocated <> coalesce(t.amount, 0)
union all
-- Nobody looks at lots before they are due: one that ended earlier would be spent for ever.
select 'I3', c.user_id, 'when lots are due', 'by ' || g.expires_at, c.lots_due_at::text
  from public.user_credits as c
  join (select x.user_id, min(x.expires_at) as expires_at from public.credit_grants as x where x.is_open group by x.user_id) as g
    on g.user_id = c.user_id
 where c.lots_due_at > g.expires_at;

-- sql/50_credits/credit_failure_spikes.sql

-- Which models fail: those that failed at least five times in the last hour, and at least three times as often as in an
-- hour of the day before, on average; `times` is null where none failed then. `events` is all their uses of the last hour. What
-- was refused is written down nowhere, so it is not in here: the functions' metrics count it.

create or replace view public.credit_failure_spikes
with (security_invoker = true)
as
select f.provider, f.model, f.failures, a.events, round(f.failures_before / 24.0, 2) as hourly_mean,
       round(f.failures / nullif(f.failures_before / 24.0, 0), 1) as times, f.last_at
  from (select e.provider, e.model, max(e.created_at) as last_at,
               count(*) filter (where e.created_at > internal.clock() - interval '1 hour') as failures,
               count(*) filter (where e.created_at <= internal.clock() - interval '1 hour') as failures_before
          from public.usage_events as e
         where not e.success and e.created_at > internal.clock() - interval '25 hours' and e.created_at <= internal.clock()
         group by e.provider, e.model) as f
 cross join lateral (
       select count(*) as events
         from public.usage_events as e
        where e.created_at > internal.clock() - interval '1 hour' and e.created_at <= internal.clock()
          and e.provider is not distinct from f.provider and e.model is not distinct from f.model) as a
 where f.failures >= 5 and f.failures >= 3 * f.failures_before / 24.0;

-- sql/50_credits/credit_lots.sql

-- A user's credits lot by lot, in the order in which they are spent, and which end next. What has ended is not there to be
-- spent, whether its expiry is posted yet or not.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; a user without a row has none.

create or replace function public.credit_lots(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  perform internal.act_for(array[p_user_id]);
  return (
    with ended as materialized (
      select * from internal.ended_credit_lots(array[p_user_id])
    ), lot as materialized (
      select g.grant_id, case when e.keeps > 0 then 'rollover' else g.source end as source, g.priority, g.amount,
             g.remaining - coalesce(e.loses, 0) as remaining, g.created_at,
             case when e.keeps > 0 then g.expires_at + interval '1 month' else g.expires_at end as expires_at
        from public.credit_grants as g
        left join ended as e on e.grant_id = g.grant_id
       where g.user_id = p_user_id and g.is_open and g.remaining > coalesce(e.loses, 0)
    ), account as (
      select coalesce(sum(a.balance), 0) / 1000000.0 - coalesce((select sum(e.loses) from ended as e), 0) as balance,
             coalesce(sum(a.held), 0) / 1000000.0 as held
        from ledger.accounts as a
       where a.book_id = p_user_id and a.account = 'credits'
    )
    select jsonb_build_object(
             'balance', internal.credits_json(a.balance), 'reserved', internal.credits_json(a.held),
             'available', internal.credits_json(a.balance - a.held),
             'lots', coalesce((
               select jsonb_agg(jsonb_build_object(
                        'grant_id', l.grant_id, 'source', l.source, 'priority', l.priority, 'amount', internal.credits_json(l.amount),
                        'remaining', internal.credits_json(l.remaining), 'expires_at', l.expires_at)
                        order by l.priority, l.expires_at, l.created_at, l.grant_id)
                 from lot as l), '[]'),
             'expires_next', (
               select jsonb_build_object('credits', internal.credits_json(sum(l.remaining)), 'expires_at', l.expires_at)
                 from lot as l
                where l.expires_at > v_now
                group by l.expires_at
                order by l.expires_at
                limit 1))
      from account as a);
end
$$;

-- sql/50_credits/credit_low_balances.sql

-- Whose credits run low: users who had credits once, whose balance changed in the last 30 days and is under what their tier
-- calls low. Who never had any, who left long ago and who may owe is not warned. What is reserved is in the balance: it may
-- come back.

create or replace view public.credit_low_balances
with (security_invoker = true)
as
select c.user_id, c.tier, c.balance, t.low_balance_below, c.updated_at
  from public.user_credits as c
  join public.pricing_tiers as t on t.tier = c.tier and t.version = (
       select v.version from public.pricing_versions as v
        where v.effective_from <= internal.clock() order by v.effective_from desc limit 1)
 where c.balance < t.low_balance_below and c.credits_allocated > 0 and t.monthly_credits is not null
   and c.updated_at > (select internal.clock()) - interval '30 days';

-- sql/50_credits/credit_move.sql

-- A movement of credits by the names of what is known of it; the rest is null.

create or replace function internal.credit_move(
  p_user_id          uuid,
  p_amount           numeric,
  p_transaction_type text,
  p_id               uuid default null,
  p_reason           text default null,
  p_provider         text default null,
  p_model            text default null,
  p_power_level      text default null,
  p_tokens_used      bigint default null,
  p_cost             numeric default null,
  p_metadata         jsonb default null,
  p_refund_of        uuid default null,
  p_idempotency_key  text default null,
  p_request_hash     text default null,
  p_actor            text default null,
  p_request_id       text default null,
  p_created_at       timestamptz default null,
  p_lot_id           uuid default null,
  p_source           text default null,
  p_priority         int default null,
  p_expires_at       timestamptz default null
)
returns internal.credit_movement
language plpgsql volatile
set search_path = ''
as $$
declare
  v_move internal.credit_movement;
begin
  v_move.user_id := p_user_id;
  v_move.id := coalesce(p_id, internal.uuidv7());
  v_move.amount := p_amount;
  v_move.transaction_type := p_transaction_type;
  v_move.reason := p_reason;
  v_move.provider := p_provider;
  v_move.model := p_model;
  v_move.power_level := p_power_level;
  v_move.tokens_used := p_tokens_used;
  v_move.cost := p_cost;
  v_move.metadata := p_metadata;
  v_move.refund_of := p_refund_of;
  v_move.idempotency_key := p_idempotency_key;
  v_move.request_hash := p_request_hash;
  v_move.actor := p_actor;
  v_move.request_id := p_request_id;
  v_move.created_at := coalesce(p_created_at, internal.clock());
  v_move.lot_id := p_lot_id;
  v_move.source := coalesce(p_source, p_transaction_type);
  v_move.priority := coalesce(p_priority, 100);
  v_move.expires_at := p_expires_at;
  return v_move;
end
$$;

-- sql/50_credits/credit_packages_on_offer.sql

-- What credits are sold in, and what each package costs this user with the discount that waits for them.
--
-- Replay:  it changes nothing.
-- Locks:   none.
-- Refuses: nothing.

create or replace function public.credit_packages_on_offer(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return (
    select jsonb_build_object('packages', coalesce(jsonb_agg(jsonb_build_object(
             'package', p.package, 'credits', internal.credits_json(p.credits), 'price', internal.credits_json(p.price),
             'currency', p.currency, 'discount', internal.credits_json(coalesce(o.discount, 0)),
             'amount_due', internal.credits_json(p.price - coalesce(o.discount, 0)), 'code', o.code) order by p.price, p.package), '[]'))
      from public.credit_packages as p
      left join lateral (
           select d.code, round(p.price * d.percent / 100, 2) as discount
             from internal.waiting_discount(p_user_id) as d
            where p.price > 0) as o on true
     where p.is_active);
end
$$;

-- sql/50_credits/credit_reservation_discrepancies.sql

-- Where reservations disagree with the ledger's holds and with what settled them: their part of ledger.discrepancies.

create or replace view internal.credit_reservation_discrepancies
with (security_invoker = true)
as
select 'I3' as invariant, coalesce(r.user_id, h.book_id) as book_id, 'reservation ' || coalesce(r.id, h.hold_id) as subject,
       coalesce(r.amount, 0)::text as expected, (coalesce(h.amount, 0) / 1000000.0)::numeric(18, 6)::text as actual
  from public.credit_reservations as r
  full join (select x.book_id, x.hold_id, x.amount from ledger.holds as x where x.account = 'credits') as h
    on h.book_id = r.user_id and h.hold_id = r.id
 where coalesce(r.amount, 0) * 1000000 <> coalesce(h.amount, 0)
union all
-- What is settled has its transaction, which takes what the hold gave, and whatever it cost more.
select 'I1', h.book_id, 'settlement of ' || h.hold_id,
       case h.status when 'settled' then (h.settled / 1000000.0)::numeric(18, 6)::text else 'none' end,
       coalesce((-t.amount)::text, 'none')
  from ledger.holds as h
  left join public.credit_transactions as t on t.user_id = h.book_id and t.id = h.hold_id
 where h.account = 'credits'
   and case when h.status = 'settled' then t.id is null or h.settled <> least(-t.amount * 1000000, h.amount)
            else t.id is not null end;

-- sql/50_credits/credit_reservation_status.sql

-- How a reservation stands: 'held', 'settled', 'released' or 'expired'. What it is asked of has one answer only: the ledger's
-- hold, where something is held. A reservation of nothing has no hold: its transaction tells that it was settled, released_at
-- that it was released, and the clock that its time is up. Whoever decides by it holds internal.lock_credits.
-- A hold whose time is up is held until upkeep has taken it back: until then it can be settled.
--
-- p_hold: the status of the reservation's hold, if it has one. p_is_settled: whether its transaction is there.

create or replace function internal.credit_reservation_status(
  p_reservation public.credit_reservations, p_hold text, p_is_settled boolean)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return case
    when p_reservation.amount > 0 then p_hold
    when p_is_settled then 'settled'
    when p_reservation.released_at is not null then 'released'
    when p_reservation.expires_at <= internal.clock() then 'expired'
    else 'held' end;
end
$$;

-- sql/50_credits/credit_transaction.sql

-- One transaction of a user's, with the lots it brought to or took from, and what was refunded of it.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: transaction_not_found, for another user's as well.

create or replace function public.credit_transaction(p_user_id uuid, p_transaction_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_transaction public.credit_transactions;
begin
  perform internal.act_for(array[p_user_id]);
  select t.* into v_transaction from public.credit_transactions as t where t.user_id = p_user_id and t.id = p_transaction_id;
  if v_transaction.id is null then
    perform internal.refuse('transaction_not_found', format('transaction_id: %s', p_transaction_id));
  end if;
  return internal.credit_transaction_json(v_transaction) || jsonb_build_object(
    'lots', coalesce((
      select jsonb_agg(jsonb_build_object('grant_id', e.grant_id, 'source', g.source, 'amount', internal.credits_json(e.amount))
               order by g.priority, g.expires_at, g.created_at, g.grant_id)
        from public.credit_lot_entries as e
       cross join lateral (
             select x.* from public.credit_grants as x where x.user_id = e.user_id and x.grant_id = e.grant_id limit 1) as g
       where e.user_id = p_user_id and e.transaction_id = p_transaction_id), '[]'),
    'refunds', coalesce((
      select jsonb_agg(jsonb_build_object(
               'id', r.id, 'amount', internal.credits_json(r.amount), 'reason', r.reason, 'created_at', r.created_at)
               order by r.created_at, r.id)
        from public.credit_transactions as r
       where r.user_id = p_user_id and r.refund_of = p_transaction_id), '[]'));
end
$$;

-- sql/50_credits/credit_transaction_json.sql

-- A transaction as its owner reads it.

create or replace function internal.credit_transaction_json(p_transaction public.credit_transactions)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'id', p_transaction.id, 'amount', internal.credits_json(p_transaction.amount),
    'balance_after', internal.credits_json(p_transaction.balance_after), 'transaction_type', p_transaction.transaction_type,
    'reason', p_transaction.reason, 'provider', p_transaction.provider, 'model', p_transaction.model,
    'power_level', p_transaction.power_level, 'tokens_used', p_transaction.tokens_used,
    'cost', internal.credits_json(p_transaction.cost), 'metadata', p_transaction.metadata, 'refund_of', p_transaction.refund_of,
    'created_at', p_transaction.created_at);
end
$$;

-- sql/50_credits/credit_transactions_page.sql

-- A page of a user's statement, the newest first: {transactions, next_cursor}. A cursor leads on from where a page ended,
-- whatever came meanwhile; it is the last transaction's time and id, and null at the end. The end date is not included.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function public.credit_transactions_page(
  p_user_id    uuid,
  p_type       text default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null,
  p_limit      int default 50,
  p_offset     int default 0,
  p_cursor     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_limit int := coalesce(p_limit, 50);
  v_offset int := coalesce(p_offset, 0);
  v_bytes bytea;
  v_microseconds bigint;
  -- In variables, because a condition that calls a function is no index condition under row-level security.
  v_before timestamptz := timestamptz 'infinity';
  v_before_id uuid := uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_start timestamptz := coalesce(p_start_date, '-infinity');
  v_end timestamptz := coalesce(p_end_date, 'infinity');
  v_page public.credit_transactions[];
begin
  perform internal.act_for(array[p_user_id]);
  if p_type not in ('usage', 'purchase', 'bonus', 'refund', 'adjustment', 'allocation', 'expiry') then
    perform internal.refuse('invalid_body',
      'type: must be usage, purchase, bonus, refund, adjustment, allocation or expiry');
  elsif v_limit not between 1 and 10000 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 10000');
  elsif v_offset not between 0 and 10000 then
    perform internal.refuse('invalid_body', 'offset: must be 0 to 10000');
  end if;

  if p_cursor is not null then
    -- 24 bytes, and so 32 characters: the time in microseconds, and the id.
    if p_cursor ~ '^[A-Za-z0-9_-]{32}$' then
      v_bytes := decode(translate(p_cursor, '-_', '+/'), 'base64');
      v_microseconds := ('x' || encode(substring(v_bytes for 8), 'hex'))::bit(64)::bigint;
    end if;
    if v_microseconds is null or v_microseconds not between 0 and 9000000000000000 then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave');
    end if;
    v_before := 'epoch'::timestamptz + v_microseconds * interval '1 microsecond';
    v_before_id := encode(substring(v_bytes from 9), 'hex')::uuid;
  end if;

  -- Two ways in, each by an index of its own: a rare type is not looked for among all that there is.
  -- Both bring the order along, and nothing may be sorted: a planner that takes the user for one with few transactions
  -- would read them all. The second names the type in its order, and not as the one value that it is, for the same reason.
  if p_type is null then
    v_page := array(
      select x
        from public.credit_transactions as x
       where x.user_id = p_user_id and (x.created_at, x.id) < (v_before, v_before_id)
         and x.created_at >= v_start and x.created_at < v_end
       order by x.created_at desc, x.id desc
       limit v_limit + 1 offset v_offset);
  else
    v_page := array(
      select x
        from public.credit_transactions as x
       where x.user_id = p_user_id and x.transaction_type = any (array[p_type]) and (x.created_at, x.id) < (v_before, v_before_id)
         and x.created_at >= v_start and x.created_at < v_end
       order by x.transaction_type, x.created_at desc, x.id desc
       limit v_limit + 1 offset v_offset);
  end if;

  return jsonb_build_object(
    'transactions', coalesce((
      select jsonb_agg(internal.credit_transaction_json(t) order by t.created_at desc, t.id desc) from unnest(v_page[:v_limit]) as t), '[]'),
    'next_cursor', case when cardinality(v_page) > v_limit then translate(encode(
      int8send((extract(epoch from v_page[v_limit].created_at) * 1000000)::bigint) || uuid_send(v_page[v_limit].id), 'base64'), '+/', '-_') end);
end
$$;

-- sql/50_credits/credit_unusual_spending.sql

-- Who spends unusually much: users whose usage of the last 24 hours cost at least 10 credits, and at least three times as
-- much as a day of theirs did on average in the 30 days before; `times` is null where those cost nothing.

create or replace view public.credit_unusual_spending
with (security_invoker = true)
as
select d.user_id, d.spent, d.events, round(b.spent / 30, 6) as daily_mean, round(d.spent / nullif(b.spent / 30, 0), 1) as times
  from (select e.user_id, sum(e.cost) as spent, count(*) as events
          from public.usage_events as e
         where e.created_at > internal.clock() - interval '24 hours' and e.created_at <= internal.clock()
         group by e.user_id
        having sum(e.cost) >= 10) as d
 cross join lateral (
       select coalesce(sum(e.cost), 0) as spent
         from public.usage_events as e
        where e.user_id = d.user_id and e.created_at > internal.clock() - interval '31 days'
          and e.created_at <= internal.clock() - interval '24 hours') as b
 where d.spent >= 3 * b.spent / 30;

-- sql/50_credits/credits_json.sql

-- An amount of credits as a JSON number: exact, with no more decimal places than it has, and with one at least.

create or replace function internal.credits_json(p_credits numeric)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return to_jsonb(case when scale(trim_scale(p_credits)) = 0 then round(p_credits, 1) else trim_scale(p_credits) end);
end
$$;

-- sql/50_credits/credits_text.sql

-- An amount of credits in a sentence: with no decimal places that say nothing.

create or replace function internal.credits_text(p_credits numeric)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return trim_scale(p_credits)::text;
end
$$;

-- sql/50_credits/deduct_credits.sql

-- Charges a user for what was used: internal.deduct_credits_batch for one request.
-- Returns {transaction_id, cost, new_balance, model, power_level, account}, of these what is known.
--
-- Replay, Locks, Refuses: as internal.deduct_credits_batch.

create or replace function public.deduct_credits(
  p_user_id         uuid,
  p_amount          numeric default null,
  p_tokens_used     bigint default null,
  p_model           text default null,
  p_provider        text default null,
  p_power_level     text default null,
  p_service         text default null,
  p_reason          text default null,
  p_metadata        jsonb default null,
  p_idempotency_key text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.deduct_credits_batch(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
           'user_id', p_user_id, 'amount', p_amount, 'tokens_used', p_tokens_used, 'model', p_model, 'provider', p_provider,
           'power_level', p_power_level, 'service', p_service, 'reason', p_reason, 'metadata', p_metadata,
           'idempotency_key', p_idempotency_key, 'request_id', p_request_id)))) as o;
  return internal.single(v_outcome);
end
$$;

-- sql/50_credits/deduct_credits_batch.sql

-- Charges what was used: an amount that the caller names, or the price of the tokens. Each request is an
-- internal.credit_deduction. What it does not say beside its metadata is looked for in there: provider, model, power_level,
-- tokens_used, service. Every charge is written down as a use, also where it cost nothing.
--
-- Replay:  the same request under the same key is answered as the first time, with "replayed", for ever. Without a key each is new.
-- Locks:   internal.lock_credits; then the rows it writes.
-- Refuses: invalid_body, invalid_amount, nonce_reused, monthly_cap_reached, insufficient_credits.

create or replace function internal.deduct_credits_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_version int := internal.pricing_version();
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  return query
  with request as materialized (
    select r.ordinality as position, r.user_id, r.amount, r.reason, r.metadata, r.idempotency_key, r.request_id,
           coalesce(r.model, left(r.metadata ->> 'model', 200)) as model,
           coalesce(r.provider, left(r.metadata ->> 'provider', 100)) as provider,
           coalesce(r.power_level, left(r.metadata ->> 'power_level', 100)) as power_level,
           coalesce(r.service, left(r.metadata ->> 'service', 100)) as service,
           -- Strictly: a list of one number is no number.
           coalesce(r.tokens_used, case when jsonb_path_exists(r.metadata, 'strict $.tokens_used ? (@ >= 0 && @ <= 1000000000000)', silent => true)
                                        then floor((r.metadata ->> 'tokens_used')::numeric)::bigint end) as tokens_used,
           internal.request_hash(jsonb_strip_nulls(to_jsonb(r) - '{user_id,ordinality,request_id,idempotency_key}'::text[]
             || jsonb_build_object('amount', trim_scale(r.amount)))) as request_hash
      from jsonb_populate_recordset(null::internal.credit_deduction, p_requests) with ordinality as r
  ), priced as materialized (
    select r.*, p.tier as priced_tier, p.pricing_version, coalesce(p.power_level, r.power_level) as counted_level,
           case when r.amount is null then p.cost else r.amount end as cost,
           coalesce(c.tier, 'free') as tier, c.monthly_cap, coalesce(c.version, 0) as version, c.balance as account_balance,
           a.available, t.id as known_id, t.amount as known_amount, t.balance_after as known_balance,
           t.request_hash as known_hash, t.model as known_model, t.power_level as known_level
      from request as r
      left join lateral (
           select x.tier, x.monthly_cap, x.version, x.balance from public.user_credits as x where x.user_id = r.user_id limit 1) as c on true
      left join lateral (
           select (x.balance - x.held - x.floor) / 1000000.0 as available
             from ledger.accounts as x where x.book_id = r.user_id and x.account = 'credits' limit 1) as a on true
      left join lateral (
           select x.* from public.credit_transactions as x
            where x.user_id = r.user_id and x.idempotency_key = r.idempotency_key limit 1) as t on true
      -- The limit keeps the condition in front of the call: an amount that is named has no price, nor what is known already.
      left join lateral (
           select x.* from internal.credit_cost(r.tokens_used, r.model, r.provider, r.power_level, coalesce(c.tier, 'free'), v_version) as x
            where r.amount is null and t.id is null limit 1) as p on true
  ), judged as materialized (
    select p.*, case
             when p.known_hash = p.request_hash then 'known'
             when p.known_id is not null then 'nonce_reused'
             when length(p.model) > 200 or length(p.provider) > 100 or length(p.power_level) > 100 or length(p.service) > 100
                  or internal.is_system_key(p.idempotency_key) then 'invalid_body'
             when p.amount is null and (p.tokens_used is null or coalesce(p.model, p.provider) is null) then 'invalid_body'
             when p.tokens_used not between 0 and 1000000000000 then 'invalid_amount'
             when p.amount is not null and not (p.amount > 0 and p.amount <= 1000000000 and scale(trim_scale(p.amount)) <= 6)
                  then 'invalid_amount'
             when p.monthly_cap is not null and p.cost > internal.monthly_cap_room(p.user_id) then 'monthly_cap_reached'
           end as verdict
      from priced as p
  ), move as materialized (
    select internal.credit_move(
             j.user_id, -j.cost, 'usage', p_reason => j.reason, p_provider => j.provider, p_model => j.model,
             p_power_level => j.counted_level, p_tokens_used => j.tokens_used, p_cost => j.cost, p_metadata => j.metadata,
             p_idempotency_key => j.idempotency_key, p_request_hash => j.request_hash, p_request_id => j.request_id) as m,
           j.position
      from judged as j
     where j.verdict is null
  ), moved as materialized (
    select o.id, o.outcome, o.balance_after, (m.m).user_id
      from internal.move_credits(array(select x.m from move as x order by x.position)) as o
      join move as m on (m.m).id = o.id
  ), used as materialized (
    select internal.record_usage(array(
             select internal.usage_event(
                      j.user_id, j.cost, j.tokens_used, p_provider => j.provider, p_model => j.model, p_power_level => j.counted_level,
                      p_service => j.service, p_metadata => j.metadata, p_tier => j.tier, p_pricing_version => j.pricing_version,
                      p_transaction_id => d.id)
               from moved as d
               join judged as j on j.user_id = d.user_id
              where d.outcome = 'posted')) as nothing
  )
  select j.position::int,
         case when j.verdict = 'known' then jsonb_strip_nulls(jsonb_build_object(
                'transaction_id', j.known_id, 'cost', internal.credits_json(-j.known_amount),
                'new_balance', internal.credits_json(j.known_balance), 'model', j.known_model, 'power_level', j.known_level, 'replayed', true))
                || jsonb_build_object('account', jsonb_build_object(
                'balance', internal.credits_json(j.account_balance), 'tier', j.tier,
                'monthly_cap', internal.credits_json(j.monthly_cap), 'version', j.version))
              when d.outcome = 'posted' then jsonb_strip_nulls(jsonb_build_object(
                'transaction_id', d.id, 'cost', internal.credits_json(j.cost), 'new_balance', internal.credits_json(d.balance_after),
                'model', j.model, 'power_level', j.counted_level)) || jsonb_build_object('account', jsonb_build_object(
                'balance', internal.credits_json(d.balance_after), 'tier', j.tier,
                'monthly_cap', internal.credits_json(j.monthly_cap), 'version', j.version + 1)) end,
         case when j.verdict = 'known' or d.outcome = 'posted' then null
              when j.verdict is null then internal.refusal('insufficient_credits', format('Insufficient credits. Balance: %s, Required: %s',
                internal.credits_text(coalesce(j.available, 0)), internal.credits_text(j.cost)))
              else internal.refusal(j.verdict, case j.verdict
                when 'nonce_reused' then 'idempotency_key: it came with another request before'
                when 'monthly_cap_reached' then internal.monthly_cap_detail(j.monthly_cap)
                when 'invalid_amount' then case when j.amount is null
                  then 'tokens_used: must be between 0 and 1000000000000'
                  else 'amount: must be above 0, at most 1000000000, with at most six decimal places' end
                else case when length(j.model) > 200 then 'model: must have at most 200 characters'
                          when length(j.provider) > 100 then 'provider: must have at most 100 characters'
                          when length(j.power_level) > 100 then 'power_level: must have at most 100 characters'
                          when length(j.service) > 100 then 'service: must have at most 100 characters'
                          when internal.is_system_key(j.idempotency_key) then 'idempotency_key: must not begin with purchase: or allocation:'
                          when j.tokens_used is null then 'tokens_used: must say how many, or amount what they cost'
                          else 'model: must say what was used, or amount what it cost' end end) end
    from judged as j
    left join moved as d on d.user_id = j.user_id
   cross join (select count(*) from used) as u;
end
$$;

-- sql/50_credits/delete_openrouter_account.sql

-- Forgets a user's account at OpenRouter and the key with it.
--
-- Replay:  refused: there is none any more.
-- Locks:   the user's row.
-- Refuses: account_not_found.

create or replace function public.delete_openrouter_account(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform internal.act_for(array[p_user_id]);
  delete from public.openrouter_accounts as a where a.user_id = p_user_id;
  if not found then
    perform internal.refuse('account_not_found', 'No account at OpenRouter is connected.');
  end if;
  return jsonb_build_object('connected', false);
end
$$;

-- sql/50_credits/delete_promotion.sql

-- Ends a promotional code. One that was redeemed stays and is switched off, because it tells what was given; one that never was
-- goes. What it has given keeps: credits, and discounts that wait. Administrators only. Returns {code, deleted, times_used}.
--
-- Replay:  one that is switched off is answered so again, with "replayed"; one that went is not found.
-- Locks:   the code.
-- Refuses: forbidden, promotion_not_found.

create or replace function public.delete_promotion(
  p_user_id    uuid,
  p_code       text,
  p_reason     text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_promotion public.coupon_codes;
begin
  select c.* into v_promotion from public.coupon_codes as c where c.code = internal.promotion_code(p_code) for update;
  if v_promotion.code is null then
    perform internal.refuse('promotion_not_found', format('code: %s', internal.promotion_code(p_code)));
  end if;

  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.reason', coalesce(p_reason, ''), true),
          set_config('tallybook.request_id', coalesce(p_request_id, ''), true);
  if v_promotion.times_used = 0 then
    delete from public.coupon_codes as c where c.code = v_promotion.code;
  elsif v_promotion.is_active then
    update public.coupon_codes as c set is_active = false, updated_at = internal.clock() where c.code = v_promotion.code;
  end if;
  return jsonb_build_object(
    'code', v_promotion.code, 'deleted', v_promotion.times_used = 0, 'times_used', v_promotion.times_used,
    'replayed', v_promotion.times_used > 0 and not v_promotion.is_active);
end
$$;

-- sql/50_credits/ended_credit_lots.sql

-- What becomes of these users' lots whose time is up: how much of each keeps for a month more, how much is lost. What is
-- reserved outlives its lot, so never more is lost than can be spent; and of a user's monthly credits as many keep as the
-- tier allows, those that kept before and still do counted, the latest first. What ended a month ago keeps no more, whether
-- anybody saw it end or not.

create or replace function internal.ended_credit_lots(p_user_ids uuid[])
returns table (user_id uuid, grant_id uuid, keeps numeric, loses numeric)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  return query
  with lot as (
    select g.user_id, g.grant_id, g.source, g.remaining, g.expires_at, g.created_at, a.available,
           greatest(0, coalesce(t.rollover_max, 0) - k.remaining) as may_keep,
           sum(g.remaining) filter (where g.source = 'allocation') over (
             partition by g.user_id order by g.expires_at desc, g.created_at desc, g.grant_id desc) as allocated_until
      from unnest(p_user_ids) as u(user_id)
     cross join lateral (
           select x.* from public.credit_grants as x
            where x.user_id = u.user_id and x.is_open and x.expires_at <= v_now) as g
     cross join lateral (select x.tier from public.user_credits as x where x.user_id = u.user_id limit 1) as c
      left join public.pricing_tiers as t on t.version = internal.pricing_version() and t.tier = c.tier
     cross join lateral (
           select coalesce(sum(x.remaining), 0) as remaining from public.credit_grants as x
            where x.user_id = u.user_id and x.is_open and x.source = 'rollover' and x.expires_at > v_now) as k
     cross join lateral (
           select (x.balance - x.held)::numeric / 1000000 as available from ledger.accounts as x
            where x.book_id = u.user_id and x.account = 'credits' limit 1) as a
  ), kept as (
    select l.*, case when l.source = 'allocation' and l.expires_at + interval '1 month' > v_now
                     then least(l.remaining, greatest(0, l.may_keep - (l.allocated_until - l.remaining))) else 0 end as keep
      from lot as l
  ), ended as (
    select k.*, sum(k.remaining - k.keep) over (
             partition by k.user_id order by k.expires_at, k.created_at, k.grant_id) as until
      from kept as k
  )
  select e.user_id, e.grant_id, e.keep::numeric,
         greatest(0, least(e.remaining - e.keep, e.available - (e.until - (e.remaining - e.keep))))::numeric
    from ended as e;
end
$$;

-- sql/50_credits/ended_credits.sql

-- How many of a user's credits belong to lots whose time is up, and are about to expire: what is reserved of them, or keeps
-- for another month, is not.

create or replace function internal.ended_credits(p_user_id uuid)
returns numeric
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return coalesce((select sum(l.loses) from internal.ended_credit_lots(array[p_user_id]) as l), 0);
end
$$;

-- sql/50_credits/expire_credit_lots.sql

-- Ends the lots of these users whose time is up; returns how many credits expired. What is reserved outlives its lot, and a
-- tier may let so many of its monthly credits keep for one month more, counted from when they would have ended. Whoever calls
-- it holds internal.lock_credits.
--
-- Replay:  what expired is gone; a second look finds others or none.
-- Locks:   none of its own.
-- Refuses: nothing.

create or replace function internal.expire_credit_lots(p_user_ids uuid[])
returns numeric
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_due uuid[];
  v_ends internal.credit_movement[];
  v_kept uuid[];
  v_expired numeric;
begin
  v_due := array(
    select c.user_id from (select distinct x.user_id from unnest(p_user_ids) as x(user_id)) as u
     cross join lateral (select x.user_id, x.lots_due_at from public.user_credits as x where x.user_id = u.user_id limit 1) as c
     where c.lots_due_at <= v_now);
  if cardinality(v_due) = 0 then
    return 0;
  end if;

  -- A lot of which some can still be lost keeps nothing yet: it is looked at again when what is reserved is settled.
  select coalesce(array_agg(internal.credit_move(l.user_id, -l.loses, 'expiry', p_lot_id => l.grant_id, p_reason => 'Not used in time'))
                  filter (where l.loses > 0), '{}'),
         coalesce(array_agg(l.grant_id) filter (where l.keeps > 0 and l.keeps + l.loses = g.remaining), '{}')
    into v_ends, v_kept
    from internal.ended_credit_lots(v_due) as l
   cross join lateral (
         select x.remaining from public.credit_grants as x where x.user_id = l.user_id and x.grant_id = l.grant_id limit 1) as g;

  select coalesce(sum(-m.amount), 0) into v_expired
    from internal.move_credits(v_ends) as o
    join unnest(v_ends) as m on m.id = o.id
   where o.outcome = 'posted';

  update public.credit_grants as g
     set source = 'rollover', expires_at = g.expires_at + interval '1 month'
    from unnest(v_due) as u(user_id)
   where g.user_id = u.user_id and g.is_open and g.grant_id = any (v_kept);

  update public.user_credits as c
     set lots_due_at = coalesce((
           -- What is reserved has not ended yet. It stays due, so that nobody spends what is given back of it.
           select min(g.expires_at)
             from public.credit_grants as g
            where g.user_id = c.user_id and g.is_open and g.expires_at is not null), 'infinity')
   where c.user_id = any (v_due);
  return v_expired;
end
$$;

-- sql/50_credits/expire_credits.sql

-- Ends the lots whose time is up, of at most p_limit users; returns {"expired": users, "credits": n}. Who spends meets their
-- own ends before: this is for those who do not.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   internal.lock_credits of all of them.
-- Refuses: nothing.

create or replace function public.expire_credits(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_users uuid[];
begin
  v_users := array(
    select c.user_id
      from public.user_credits as c
     where c.lots_due_at <= v_now and c.lots_due_at < 'infinity'  -- as the index says
       -- Who has reserved all that is left loses nothing yet.
       and (select a.balance > a.held from ledger.accounts as a where a.book_id = c.user_id and a.account = 'credits')
     order by c.lots_due_at
     limit p_limit);
  perform internal.lock_credits(v_users);
  return jsonb_build_object(
    'expired', cardinality(v_users), 'credits', internal.credits_json(internal.expire_credit_lots(v_users)));
end
$$;

-- sql/50_credits/fold_usage.sql

-- Adds what was used of late to everybody's sums by month and model, at most p_limit changes, the oldest first; returns
-- {"folded": n}. Whoever reads internal.usage_by_month sees the same before and after.
--
-- Replay:  a change that was folded is gone; a second run finds others or none.
-- Locks:   the changes, skipping those that are taken; then the sums, in order: several workers share the work.
-- Refuses: nothing.

create or replace function public.fold_usage(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_folded int;
begin
  with due as materialized (
    select d.id from internal.usage_deltas as d order by d.id limit p_limit for update skip locked
  ), taken as (
    delete from internal.usage_deltas as d
     using due as u
     where d.id = u.id
    returning d.*
  ), added as (
    insert into internal.usage_totals as t (month, provider, model, power_level, events, failures, tokens, cost, refunded)
    select k.month, k.provider, k.model, k.power_level, sum(k.events), sum(k.failures), sum(k.tokens), sum(k.cost), sum(k.refunded)
      from taken as k
     group by k.month, k.provider, k.model, k.power_level
     order by k.month, k.provider, k.model, k.power_level
    on conflict (month, provider, model, power_level) do update
       set events   = t.events + excluded.events,
           failures = t.failures + excluded.failures,
           tokens   = t.tokens + excluded.tokens,
           cost     = t.cost + excluded.cost,
           refunded = t.refunded + excluded.refunded
  )
  select count(*) into v_folded from taken as k;
  return jsonb_build_object('folded', v_folded);
end
$$;

-- sql/50_credits/guard_price_list.sql

-- Keeps a price list as it was published: once it is in force none of its rows comes, changes or goes, whoever asks. One
-- that takes effect at once is written by the transaction that publishes it, whose time is the price list's own.

create or replace function internal.guard_price_list()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_before jsonb := case when tg_op in ('UPDATE', 'DELETE') then to_jsonb(old) end;
  v_after jsonb := case when tg_op in ('UPDATE', 'INSERT') then to_jsonb(new) end;
  v_was_from timestamptz;
  v_is_from timestamptz;
begin
  select v.effective_from into v_was_from from public.pricing_versions as v where v.version = (v_before ->> 'version')::int;
  select v.effective_from into v_is_from from public.pricing_versions as v where v.version = (v_after ->> 'version')::int;
  v_is_from := coalesce((v_after ->> 'effective_from')::timestamptz, v_is_from);
  if tg_op = 'TRUNCATE' or v_was_from <= v_now or v_is_from < v_now or tg_op = 'UPDATE' and v_is_from = v_now then
    raise exception using
      errcode = '42501',
      message = format('%I.%I: a price list in force does not change', tg_table_schema, tg_table_name),
      hint    = 'Publish a new one.';
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;

create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_versions
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_versions
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_models
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_models
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_providers
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_providers
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_power_levels
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_power_levels
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_tiers
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_tiers
for each statement execute function internal.guard_price_list();

-- sql/50_credits/import_usage_events.sql

-- Brings in what was used before this book was kept: events at the time at which they happened, recorded now. Takes up to
-- 1,000, each by itself: what is refused is named and left out, the others come in.
-- p_source names where they come from. Each event: {line, user_id, event_time, provider, model, power_level, service,
-- event_type, tokens_used, cost, success, key, occurrence, metadata}; the line, the user, the time, the tokens and the cost
-- must be there. `key` is the source's own id of the event; without one, `occurrence` tells equal events of a user apart:
-- 1, 2, …
-- The answer: {imported, tokens, cost, known, refused: [{line, code, detail}]}, with the sums of what came in.
--
-- What is imported was paid for elsewhere and is not charged here: no transaction stands behind it. It counts in every
-- statistic, and what lies in the running month counts towards the user's monthly cap like anything else that was used.
--
-- Replay:  an event that is there already is counted as known.
-- Locks:   the users' credits; so of two imports of one file the later finds what the earlier brought.
-- Refuses: the call: invalid_body. An event: invalid_body, nonce_reused, event_in_future.

create or replace function public.import_usage_events(p_source text, p_events jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_answer jsonb;
  v_events public.usage_events[];
begin
  if p_source is null or p_source !~ '^[^[:cntrl:]]{1,100}$' then
    perform internal.refuse('invalid_body', 'source: must have 1 to 100 characters');
  end if;
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) > 1000 then
    perform internal.refuse('invalid_body', 'events: must be an array of at most 1000');
  end if;
  perform internal.lock_credits(array(
    select distinct (e ->> 'user_id')::uuid from jsonb_array_elements(p_events) as e where e ->> 'user_id' is not null));

  with line as materialized (
    select l.position, l.line, l.user_id, l.event_time, nullif(l.provider, '') as provider, nullif(l.model, '') as model,
           nullif(l.power_level, '') as power_level, nullif(l.service, '') as service,
           coalesce(nullif(l.event_type, ''), 'usage') as event_type, trim_scale(l.tokens_used) as tokens_used, round(l.cost, 6) as cost,
           coalesce(l.success, true) as success, l.key, coalesce(l.occurrence, 1) as occurrence, nullif(l.metadata, 'null') as metadata
      from rows from (jsonb_to_recordset(p_events) as (
             line bigint, user_id uuid, event_time timestamptz, provider text, model text, power_level text, service text,
             event_type text, tokens_used numeric, cost numeric, success boolean, key text, occurrence int, metadata jsonb))
           with ordinality as l(line, user_id, event_time, provider, model, power_level, service, event_type, tokens_used, cost,
                                success, key, occurrence, metadata, position)
  ), told as materialized (
    -- What an event is, apart from its metadata: of which a source may tell more the next time.
    select l.*, jsonb_build_array(l.event_type, l.event_time, l.provider, l.model, l.power_level, l.service, l.tokens_used, l.cost,
             l.success) as content
      from line as l
  ), hashed as materialized (
    select t.*, encode(sha256(convert_to(jsonb_build_array('import', p_source, t.user_id, t.key,
             case when t.key is null then jsonb_build_array(t.content, t.occurrence) end)::text, 'UTF8')), 'hex') as payload_hash
      from told as t
  ), judged as materialized (
    select h.*,
           case
             when num_nulls(h.line, h.user_id, h.event_time, h.tokens_used, h.cost) > 0 or not isfinite(h.event_time)
                  or h.tokens_used <> trunc(h.tokens_used) or h.tokens_used not between 0 and 1000000000000000
                  or h.cost not between 0 and 100000000000 or h.event_type !~ '^[a-z][a-z_.]{0,99}$'
                  or greatest(length(h.provider), length(h.model), length(h.power_level), length(h.service), length(h.key)) > 200
                  or octet_length(h.metadata::text) > 16384 then 'invalid_body'
             when e.content is distinct from h.content and e.id is not null then 'nonce_reused'
             when e.id is not null then 'known'
             when h.event_time > v_now + interval '10 minutes' then 'event_in_future'
           end as verdict
      from hashed as h
      left join lateral (
           select x.id, jsonb_build_array(x.event_type, x.created_at, x.provider, x.model, x.power_level, x.service, x.tokens_used,
                    x.cost, x.success) as content
             from public.usage_events as x
            where x.user_id = h.user_id and x.payload_hash = h.payload_hash
            limit 1) as e on true
  ), paired as materialized (
    -- The first of those that are one event within this call speaks for the others.
    select j.*, first_value(j.position) over same as first_position, j.content <> first_value(j.content) over same as differs
      from judged as j
    window same as (partition by j.user_id, j.payload_hash, j.verdict is null order by j.position)
  ), fresh as materialized (
    select p.* from paired as p where p.verdict is null and p.position = p.first_position order by p.event_time, p.position
  ), refused as (
    select p.line, coalesce(p.verdict, 'nonce_reused') as code, case p.verdict
             when 'invalid_body' then 'something is missing or out of range'
             when 'event_in_future' then format('event_time: %s lies in the future', p.event_time)
             else format('key: %s came with another event before', p.key) end as detail
      from paired as p
     where p.verdict <> 'known' or p.verdict is null and p.differs
  ), come as (
    select count(*) as imported, coalesce(sum(f.tokens_used), 0) as tokens, coalesce(sum(f.cost), 0) as cost,
           array_agg(row(
             f.user_id, internal.uuidv7(), f.event_type, f.service, f.provider, f.model, f.power_level, f.tokens_used, f.cost, f.success,
             f.metadata, null, null, null, p_source, f.payload_hash, f.event_time, v_now)::public.usage_events) as events
      from fresh as f
  ), gone as (
    select count(*) as refused, coalesce(jsonb_agg(to_jsonb(r) order by r.line), '[]') as refusals from refused as r
  )
  select jsonb_build_object('imported', c.imported, 'tokens', c.tokens, 'cost', internal.credits_json(c.cost),
           'known', jsonb_array_length(p_events) - c.imported - g.refused, 'refused', g.refusals), c.events
    into v_answer, v_events
    from come as c, gone as g;

  perform internal.record_usage(v_events);
  return v_answer;
end
$$;

-- sql/50_credits/is_system_key.sql

-- Whether an idempotency key is one of those under which the system itself moves credits: a user who took one before would
-- keep their own payment from being granted. Null where there is no key.

create or replace function internal.is_system_key(p_idempotency_key text)
returns boolean
language plpgsql immutable
set search_path = ''
as $$
begin
  return starts_with(p_idempotency_key, 'purchase:') or starts_with(p_idempotency_key, 'allocation:');
end
$$;

-- sql/50_credits/list_promotions.sql

-- The promotional codes with how each stands, the latest first. Administrators only. p_active: those that can be redeemed
-- now, or the others; null: all. Returns {promotions, total}.
--
-- Replay:  it changes nothing.
-- Locks:   none.
-- Refuses: forbidden.

create or replace function public.list_promotions(
  p_user_id uuid,
  p_active  boolean default null,
  p_limit   int default 50,
  p_offset  int default 0
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform internal.actor(p_user_id);
  return (
    with found as materialized (
      select internal.promotion_answer(c) as promotion, c.created_at, c.code
        from public.coupon_codes as c
    ), wanted as (
      select f.* from found as f where p_active is null or p_active = (f.promotion ->> 'status' = 'active')
    ), page as (
      select w.* from wanted as w
       order by w.created_at desc, w.code
       limit least(greatest(coalesce(p_limit, 50), 1), 200) offset greatest(coalesce(p_offset, 0), 0)
    )
    select jsonb_build_object(
             'promotions', coalesce((select jsonb_agg(p.promotion order by p.created_at desc, p.code) from page as p), '[]'),
             'total', (select count(*) from wanted as w)));
end
$$;

-- sql/50_credits/lock_credits.sql

-- Lets nobody else change these users' credits until the transaction ends: what every procedure does first that changes
-- any. The users' own locks come before the accounts', because who has no account yet has nothing else to wait at.
-- What is read afterwards, in a statement of its own, is as the one before left it.
--
-- Locks: an advisory lock for each user, in order; then their credits accounts, in order.

create or replace function internal.lock_credits(p_user_ids uuid[])
returns void
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  perform pg_advisory_xact_lock(l.key)
     from (select distinct hashtextextended(u.user_id::text, 50) as key from unnest(p_user_ids) as u(user_id) order by 1) as l;
  perform ledger.lock(p_user_ids, 'credits');
end
$$;

-- sql/50_credits/month_spent.sql

-- What a user's usage has cost in this calendar month, in UTC, less what was refunded: what a monthly cap counts, beside
-- what is reserved. It is counted from the rollup, which is written with every use and is no counter of its own.

create or replace function internal.month_spent(p_user_id uuid)
returns numeric
language plpgsql stable
set search_path = ''
as $$
begin
  return coalesce((
    select sum(r.cost - r.refunded)
      from public.usage_rollups as r
     where r.user_id = p_user_id and r.month = date_trunc('month', internal.clock() at time zone 'UTC')::date), 0);
end
$$;

-- sql/50_credits/monthly_cap.sql

-- A user's monthly cap and how it stands, as it is told to whoever asks and to whoever has set it. What remains is null where
-- there is no cap.

create or replace function internal.monthly_cap(p_user_id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return jsonb_build_object(
    'monthly_cap', (select internal.credits_json(c.monthly_cap) from public.user_credits as c where c.user_id = p_user_id),
    'spent', internal.credits_json(internal.month_spent(p_user_id)),
    'reserved', internal.credits_json(coalesce((
      select a.held / 1000000.0 from ledger.accounts as a where a.book_id = p_user_id and a.account = 'credits'), 0)),
    'remaining', internal.credits_json(internal.monthly_cap_room(p_user_id)),
    'resets_at', date_trunc('month', internal.clock()) + interval '1 month');
end
$$;

-- sql/50_credits/monthly_cap_detail.sql

-- What is said to whoever has come to their monthly cap: which it is, and in how many seconds the next month begins.

create or replace function internal.monthly_cap_detail(p_monthly_cap numeric)
returns text
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return format('monthly_cap: %s credits a month; again in %s s', internal.credits_text(p_monthly_cap),
                ceil(extract(epoch from date_trunc('month', internal.clock()) + interval '1 month' - internal.clock())));
end
$$;

-- sql/50_credits/monthly_cap_entry.sql

-- What a user lets a calendar month cost, in UTC, and how much of it is left: spent is what usage cost less what was refunded,
-- reserved is what calls under way may cost yet.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; a user without a row has no cap.

create or replace function public.monthly_cap(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return internal.monthly_cap(p_user_id);
end
$$;

-- sql/50_credits/monthly_cap_room.sql

-- How much more a user's usage may cost in this calendar month, in UTC: the cap less what was used and what is reserved.
-- Null where there is no cap. It never falls below nothing: a cap that was lowered takes nothing back.
--
-- Whoever decides by it holds internal.lock_credits, so that nobody spends the same room twice.

create or replace function internal.monthly_cap_room(p_user_id uuid)
returns numeric
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select greatest(0, c.monthly_cap - internal.month_spent(p_user_id) - coalesce((
             select a.held / 1000000.0 from ledger.accounts as a where a.book_id = p_user_id and a.account = 'credits'), 0))
      from public.user_credits as c
     where c.user_id = p_user_id and c.monthly_cap is not null);
end
$$;

-- sql/50_credits/move_credits.sql

-- Moves credits for a set of movements, and keeps everything that tells of them equal to the ledger: the statement, the
-- lots, the balance. The only way credits move. Whoever calls it holds internal.lock_credits for all of the users.
-- A set may hold several movements of a user, which are then all of one direction.
--
-- What is spent is taken from the lots in their order: the lowest priority first, then the first to expire, then the
-- oldest; an expiry takes from the lot that it names. Movements lie end to end on one line and lots on another: where
-- the two overlap, one takes from the other. What an account that may owe spends beyond its lots is taken from none, and
-- what comes next pays that first. A refund goes back to the lots it came from, last spent first; what came from a lot that
-- has expired meanwhile comes as a new one.
--
-- Replay:  a movement whose transfer is in the book moves nothing again.
-- Locks:   none of its own.
-- Refuses: insufficient_funds, as an outcome.

create or replace function internal.move_credits(p_moves internal.credit_movement[])
returns setof internal.credit_moved
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_posted ledger.posted[];
begin
  if cardinality(p_moves) = 1 and p_moves[1].transaction_type = 'usage' and p_moves[1].amount <= 0 and p_moves[1].lot_id is null then
    return next internal.charge_use(p_moves[1]);
    return;
  end if;

  v_posted := array(
    select o
      from ledger.post(array(
             select row(m.id, m.user_id,
                        case when m.amount < 0 then 'credits' else c.account end,
                        case when m.amount < 0 then c.account else 'credits' end,
                        (abs(m.amount) * 1000000)::bigint, m.transaction_type, 'credit_transaction', m.id, m.created_at)::ledger.posting
               from unnest(p_moves) with ordinality as m
              cross join lateral (
                    select case m.transaction_type
                             when 'usage' then 'credits.used' when 'refund' then 'credits.used'
                             when 'purchase' then 'credits.sold'
                             when 'bonus' then 'credits.granted' when 'allocation' then 'credits.granted'
                             when 'expiry' then 'credits.expired'
                             when 'adjustment' then 'credits.adjusted' end as account) as c
              where m.amount <> 0
              order by m.ordinality)) as o);

  return query
  with judged as materialized (
    select m.*, coalesce(o.outcome, 'posted') as outcome, coalesce(c.balance, 0) as balance_before
      from unnest(p_moves) with ordinality as m
      left join unnest(v_posted) as o on o.transfer_id = m.id
      left join lateral (select x.balance from public.user_credits as x where x.user_id = m.user_id limit 1) as c on true
  ), move as materialized (
    -- Of what comes, what was owed is paid first; the rest is for the lots.
    select r.*, greatest(0, least(r.amount, r.balance_after)) as for_lots
      from (select j.*, j.balance_before + sum(j.amount) over (partition by j.user_id order by j.ordinality) as balance_after
              from judged as j
             where j.outcome = 'posted') as r
  ), spent as (
    select m.user_id, m.id, -m.amount as amount, sum(-m.amount) over (partition by m.user_id order by m.ordinality) as until
      from move as m
     where m.amount < 0 and m.lot_id is null
  ), stock as (
    select g.user_id, g.grant_id, g.remaining, sum(g.remaining) over (
             partition by g.user_id order by g.priority, g.expires_at, g.created_at, g.grant_id) as until
      from (select distinct s.user_id from spent as s) as u
     cross join lateral (
           select x.* from public.credit_grants as x where x.user_id = u.user_id and x.is_open) as g
  ), given_back as (
    -- What is left of what each lot gave for the usage that is refunded, last spent first.
    select m.user_id, m.id, m.for_lots as amount, f.grant_id, f.taken, f.has_expired, f.expires_at,
           sum(f.taken) over (partition by m.id order by f.place) as until
      from move as m
     cross join lateral (
           -- Refunds before this one that came as new lots took the place of lots that had expired.
           -- They are looked for so that a user's transactions are no way in.
           select l.*, case when l.has_expired
                            then greatest(0, least(l.gave, sum(l.gave) filter (where l.has_expired) over (order by l.place) - n.amount))
                            else l.gave end as taken
             from (
                   select g.grant_id, g.expires_at, (g.expires_at <= v_now) is true as has_expired,
                          row_number() over (
                            order by g.priority desc, g.expires_at desc nulls first, g.created_at desc, g.grant_id desc) as place,
                          -e.amount - coalesce((
                            select sum(b.amount)
                              from public.credit_transactions as t
                              join public.credit_lot_entries as b on b.user_id = t.user_id and b.transaction_id = t.id and b.grant_id = g.grant_id
                             where t.refund_of = m.refund_of and (t.user_id = m.user_id) is true), 0) as gave
                     from public.credit_lot_entries as e
                     join public.credit_grants as g on g.user_id = e.user_id and g.grant_id = e.grant_id
                    where e.user_id = m.user_id and e.transaction_id = m.refund_of) as l
            cross join (
                   select coalesce(sum(b.amount), 0) as amount
                     from public.credit_transactions as t
                     join public.credit_lot_entries as b on b.user_id = t.user_id and b.transaction_id = t.id and b.grant_id = t.id
                    where t.refund_of = m.refund_of and (t.user_id = m.user_id) is true) as n) as f
     where m.transaction_type = 'refund' and f.taken > 0
  ), returned as (
    select b.user_id, b.id, b.grant_id, b.has_expired, b.expires_at, least(b.until, b.amount) - (b.until - b.taken) as amount
      from given_back as b
     where b.until - b.taken < b.amount
  ), brought as (
    select m.user_id, m.id, m.source, m.priority, m.expires_at, m.amount, m.for_lots as remaining
      from move as m
     where m.amount > 0 and m.transaction_type <> 'refund'
    union all
    select m.user_id, m.id, 'refund', m.priority, v_now + interval '30 days', k.amount, k.amount
      from move as m
     cross join lateral (
           select m.for_lots - coalesce(sum(r.amount) filter (where not r.has_expired), 0) as amount from returned as r where r.id = m.id) as k
     where m.transaction_type = 'refund' and k.amount > 0
  ), entry as materialized (
    select s.user_id, s.id, k.grant_id, -(least(s.until, k.until) - greatest(s.until - s.amount, k.until - k.remaining)) as amount
      from spent as s
      join stock as k on k.user_id = s.user_id and k.until > s.until - s.amount and k.until - k.remaining < s.until
    union all
    select m.user_id, m.id, m.lot_id, m.amount from move as m where m.amount < 0 and m.lot_id is not null
    union all
    select r.user_id, r.id, r.grant_id, r.amount from returned as r where not r.has_expired
    union all
    select b.user_id, b.id, b.id, b.remaining from brought as b where b.remaining > 0
  ), opened as (
    insert into public.credit_grants (user_id, grant_id, source, priority, amount, remaining, expires_at, created_at)
    select b.user_id, b.id, b.source, b.priority, b.amount, b.remaining, b.expires_at, v_now from brought as b
  ), changed as (
    update public.credit_grants as g
       set remaining = g.remaining + e.amount
      from (select x.user_id, x.grant_id, sum(x.amount) as amount from entry as x where x.grant_id <> x.id group by x.user_id, x.grant_id) as e
     where g.user_id = e.user_id and g.grant_id = e.grant_id
  ), entered as (
    insert into public.credit_lot_entries (user_id, transaction_id, grant_id, amount)
    select e.user_id, e.id, e.grant_id, e.amount from entry as e
  ), told as (
    insert into public.credit_transactions (
           user_id, id, amount, balance_after, transaction_type, reason, provider, model, power_level, tokens_used, cost, metadata,
           refund_of, idempotency_key, request_hash, actor, request_id, created_at)
    select m.user_id, m.id, m.amount, m.balance_after, m.transaction_type, m.reason, m.provider, m.model, m.power_level, m.tokens_used,
           m.cost, m.metadata, m.refund_of, m.idempotency_key, m.request_hash, m.actor, m.request_id, m.created_at
      from move as m
  ), kept as (
    insert into public.user_credits as c (user_id, balance, credits_allocated, lots_due_at, version, updated_at)
    select m.user_id, sum(m.amount), coalesce(sum(m.amount) filter (where m.amount > 0 and m.transaction_type <> 'refund'), 0),
           -- What was used up and is given back ends when it would have.
           coalesce(least((select min(b.expires_at) from brought as b where b.user_id = m.user_id),
                          (select min(r.expires_at) from returned as r where r.user_id = m.user_id and not r.has_expired)), 'infinity'),
           1, v_now
      from move as m
     group by m.user_id
     order by m.user_id
    on conflict (user_id) do update
       set balance           = c.balance + excluded.balance,
           credits_allocated = c.credits_allocated + excluded.credits_allocated,
           lots_due_at       = least(c.lots_due_at, excluded.lots_due_at),
           version           = c.version + 1,
           updated_at        = excluded.updated_at
  )
  select j.ordinality::int, j.id, j.outcome, m.balance_after::numeric(18, 6)
    from judged as j
    left join move as m on m.ordinality = j.ordinality
   order by j.ordinality;
end
$$;

-- sql/50_credits/note_openrouter_sync.sql

-- Notes what OpenRouter said of a user's account. It was asked with the key that was stored as p_seen: when another is stored by now, what
-- it said is about another key, and nothing is noted. With p_reencrypted the same key is stored as encrypted under a newer one.
--
-- Replay:  noted again, unless the first one encrypted the key anew: then nothing is.
-- Locks:   the user's row.
-- Refuses: invalid_body, account_not_found.

create or replace function public.note_openrouter_sync(
  p_user_id               uuid,
  p_seen                  text,
  p_openrouter_account_id text,
  p_free_credits          numeric,
  p_reencrypted           text default null,
  p_key_id                text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_account public.openrouter_accounts;
begin
  perform internal.act_for(array[p_user_id]);
  perform internal.check_encrypted(p_reencrypted, p_key_id);
  update public.openrouter_accounts as a
     set openrouter_account_id = p_openrouter_account_id, free_credits = p_free_credits, last_synced = v_now, updated_at = v_now,
         openrouter_api_key_encrypted = coalesce(p_reencrypted, a.openrouter_api_key_encrypted), key_id = coalesce(p_key_id, a.key_id)
   where a.user_id = p_user_id and a.openrouter_api_key_encrypted = p_seen
  returning a.* into v_account;
  if v_account.user_id is null then
    return public.openrouter_account(p_user_id);
  end if;
  return internal.openrouter_answer(v_account);
end
$$;

-- sql/50_credits/openrouter_account.sql

-- A user's account at OpenRouter. p_with_key adds the key, encrypted as it is stored, for the function that asks OpenRouter with it; that
-- function keeps it to itself.
--
-- Replay:  reads only.
-- Locks:   nothing.
-- Refuses: account_not_found.

create or replace function public.openrouter_account(p_user_id uuid, p_with_key boolean default false)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_account public.openrouter_accounts;
begin
  perform internal.act_for(array[p_user_id]);
  select a.* into v_account from public.openrouter_accounts as a where a.user_id = p_user_id;
  if v_account.user_id is null then
    perform internal.refuse('account_not_found', 'No account at OpenRouter is connected.');
  end if;
  return internal.openrouter_answer(v_account) || case when p_with_key
    then jsonb_build_object('openrouter_api_key_encrypted', v_account.openrouter_api_key_encrypted, 'key_id', v_account.key_id)
    else '{}' end;
end
$$;

-- sql/50_credits/openrouter_answer.sql

-- What is told of a user's account at OpenRouter: everything but the key.

create or replace function internal.openrouter_answer(p_account public.openrouter_accounts)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'connected', true, 'openrouter_account_id', p_account.openrouter_account_id,
    'free_credits', internal.credits_json(p_account.free_credits), 'last_synced', p_account.last_synced,
    'updated_at', p_account.updated_at);
end
$$;

-- sql/50_credits/parsed_time.sql

-- A time from JSON, which came as text: null where it is none. Words that Postgres takes for times, as 'tomorrow', are none.

create or replace function internal.parsed_time(p_text text)
returns timestamptz
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return case when p_text ~ '^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?)?$' then p_text::timestamptz end;
exception when data_exception then
  return null;
end
$$;

-- sql/50_credits/price_list.sql

-- A whole price list: the one in force, or the version asked for. Prices are of 1,000 tokens.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: not_found (version).

create or replace function public.price_list(p_version int default null)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_list public.pricing_versions;
begin
  select v.* into v_list from public.pricing_versions as v where v.version = coalesce(p_version, internal.pricing_version());
  if v_list.version is null then
    perform internal.refuse('not_found', format('version: there is no price list %s', p_version));
  end if;
  return jsonb_build_object(
    'version', v_list.version, 'effective_from', v_list.effective_from, 'note', v_list.note,
    'default_price', trim_scale(v_list.default_price),
    'models', (
      select coalesce(jsonb_object_agg(m.model, trim_scale(m.price_per_1k)), '{}')
        from public.pricing_models as m where m.version = v_list.version),
    'providers', (
      select coalesce(jsonb_object_agg(p.provider, trim_scale(p.price_per_1k)), '{}')
        from public.pricing_providers as p where p.version = v_list.version),
    'power_levels', (
      select jsonb_object_agg(l.power_level, jsonb_build_object(
               'cost_multiplier', trim_scale(l.cost_multiplier), 'max_tokens', l.max_tokens, 'temperature', trim_scale(l.temperature),
               'max_cost_per_request', trim_scale(l.max_cost_per_request), 'quality', trim_scale(l.quality), 'latency', l.latency,
               'preferred_providers', l.preferred_providers))
        from public.pricing_power_levels as l where l.version = v_list.version),
    'tiers', (
      select jsonb_object_agg(t.tier, jsonb_build_object(
               'markup', trim_scale(t.markup), 'monthly_credits', trim_scale(t.monthly_credits),
               'rollover_max', trim_scale(t.rollover_max), 'low_balance_below', trim_scale(t.low_balance_below),
               'position', t.position))
        from public.pricing_tiers as t where t.version = v_list.version));
end
$$;

-- sql/50_credits/pricing_version.sql

-- The price list that is in force.

create or replace function internal.pricing_version()
returns int
language plpgsql stable
set search_path = ''
as $$
begin
  return (select v.version from public.pricing_versions as v
           where v.effective_from <= internal.clock() order by v.effective_from desc limit 1);
end
$$;

-- sql/50_credits/promotion_answer.sql

-- A promotional code as administrators see it, with how it stands now.

create or replace function internal.promotion_answer(p_promotion public.coupon_codes)
returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return to_jsonb(p_promotion) || jsonb_build_object(
    'discount_value', internal.credits_json(p_promotion.discount_value),
    'status', case when not p_promotion.is_active then 'inactive'
                   when p_promotion.expires_at <= internal.clock() then 'expired'
                   when p_promotion.times_used >= p_promotion.max_uses then 'exhausted'
                   when p_promotion.valid_from > internal.clock() then 'scheduled'
                   else 'active' end);
end
$$;

-- sql/50_credits/promotion_code.sql

-- A promotional code as it is stored, however somebody typed it: upper-case, without the blanks around it.

create or replace function internal.promotion_code(p_code text)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return upper(regexp_replace(p_code, '^\s+|\s+$', '', 'g'));
end
$$;

-- sql/50_credits/promotion_terms.sql

-- What a promotional code would bring to this user now, and whether it may; no row where there is no such code. Whoever
-- redeems it holds internal.lock_credits for the user, so that nobody else counts the same redemption.
-- is_used: redeemed by this user as often as allowed. is_valid: redeemable now by whoever has not used it.

create or replace function internal.promotion_terms(p_user_id uuid, p_code text)
returns table (
  code           text,
  discount_type  text,
  discount_value numeric,
  description    text,
  expires_at     timestamptz,
  redemption     int,
  is_used        boolean,
  is_valid       boolean,
  credits        numeric,
  source         text,
  priority       int,
  lasts_until    timestamptz
)
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
begin
  return query
    select c.code, c.discount_type, c.discount_value::numeric, c.description, c.expires_at,
           r.times + 1, r.times >= c.max_uses_per_user,
           c.is_active and c.valid_from <= v_now and (c.expires_at > v_now) is not false
             and (c.times_used < c.max_uses) is not false and w.credits is not null,
           w.credits,
           case c.discount_type when 'bonus' then 'bonus' else 'promotion' end,
           case c.discount_type when 'bonus' then 50 else 100 end,
           case c.discount_type
             when 'percentage' then coalesce(c.expires_at, v_now + interval '90 days')
             when 'free_month' then v_now + make_interval(months => c.discount_value::int)
             when 'bonus'      then v_now + make_interval(days => coalesce(c.credits_expire_after_days, 30))
             else v_now + make_interval(days => c.credits_expire_after_days) end
      from public.coupon_codes as c
     cross join lateral (
           select coalesce(max(x.redemption), 0) as times
             from public.coupon_redemptions as x
            where x.user_id = p_user_id and x.code = c.code) as r
     cross join lateral (
           -- A tier that gives none, or as many as are used, has no month to give away.
           select case c.discount_type
                    when 'percentage' then 0
                    when 'free_month' then (
                      select nullif(t.monthly_credits, 0) * c.discount_value
                        from public.pricing_tiers as t
                       where t.version = internal.pricing_version()
                         and t.tier = coalesce(c.tier, (select u.tier from public.user_credits as u where u.user_id = p_user_id), 'free'))
                    else c.discount_value end as credits) as w
     where c.code = p_code;
end
$$;

-- sql/50_credits/publish_prices.sql

-- Makes a new price list: the newest one with p_changes, as internal.changed_price_list takes them. It is in force from
-- p_effective_from on, or at once, and after every other; the one before stays for what was reckoned by it. The note says
-- why. Answers {"version", "effective_from", "note", "changes": [{"path", "before", "after"}]}.
--
-- Replay:  changes that the newest price list has already make no other: that one is answered, with "replayed".
-- Locks:   an advisory lock of all who publish or withdraw.
-- Refuses: forbidden, reason_required (note), invalid_body (changes, with the path of the fault; a time that is past,
--          or not after the newest price list's).

create or replace function public.publish_prices(
  p_user_id        uuid,
  p_changes        jsonb,
  p_note           text default null,
  p_effective_from timestamptz default null,
  p_actor          text default null,
  p_request_id     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_actor text := internal.actor(p_user_id, p_actor);
  v_from timestamptz := coalesce(p_effective_from, v_now);
  v_newest public.pricing_versions;
  v_before jsonb;
  v_after jsonb;
  v_version int;
  v_changes jsonb;
begin
  if coalesce(p_note, '') !~ '\S' then
    perform internal.refuse('reason_required', 'note: say why prices change');
  end if;
  perform pg_advisory_xact_lock(hashtextextended('public.pricing_versions', 0));
  select v.* into v_newest from public.pricing_versions as v order by v.effective_from desc limit 1;
  v_before := public.price_list(v_newest.version) - array['version', 'effective_from', 'note'];
  v_after := internal.changed_price_list(v_before, p_changes);
  if v_after = v_before then
    return jsonb_build_object('version', v_newest.version, 'effective_from', v_newest.effective_from, 'note', v_newest.note,
      'changes', '[]'::jsonb, 'replayed', true);
  end if;

  if v_from < v_now or not isfinite(v_from) then
    perform internal.refuse('invalid_body', 'effective_from: must be now or in the future');
  end if;
  if v_from <= v_newest.effective_from then
    perform internal.refuse('invalid_body', format('effective_from: must be after that of version %s, %s',
      v_newest.version, v_newest.effective_from));
  end if;

  select jsonb_agg(jsonb_build_object('path', c.path, 'before', c.before, 'after', c.after) order by c.path)
    into v_changes
    from (
      select k.part || '.' || k.name as path, v_before #> array[k.part, k.name] as before, v_after #> array[k.part, k.name] as after
        from (select p.key as part, jsonb_object_keys(p.value) as name from jsonb_each((v_before || v_after) - 'default_price') as p
               union
              select p.key, jsonb_object_keys(p.value) from jsonb_each(v_before - 'default_price') as p) as k
      union all
      select 'default_price', v_before -> 'default_price', v_after -> 'default_price') as c
   where c.before is distinct from c.after;

  -- What the trigger writes into the audit log is then theirs too.
  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.reason', p_note, true);
  select max(v.version) + 1 into v_version from public.pricing_versions as v;
  insert into public.pricing_versions (version, effective_from, default_price, note, created_by)
  values (v_version, v_from, (v_after -> 'default_price')::numeric, p_note, v_actor);
  insert into public.pricing_models (version, model, price_per_1k)
  select v_version, m.key, m.value::numeric from jsonb_each(v_after -> 'models') as m;
  insert into public.pricing_providers (version, provider, price_per_1k)
  select v_version, p.key, p.value::numeric from jsonb_each(v_after -> 'providers') as p;
  insert into public.pricing_power_levels (
         version, power_level, cost_multiplier, max_tokens, temperature, max_cost_per_request, quality, latency, preferred_providers)
  select v_version, l.key, r.cost_multiplier, r.max_tokens, r.temperature, r.max_cost_per_request, r.quality, r.latency,
         r.preferred_providers
    from jsonb_each(v_after -> 'power_levels') as l
   cross join lateral jsonb_to_record(l.value) as r(
         cost_multiplier numeric, max_tokens int, temperature numeric, max_cost_per_request numeric, quality numeric, latency text,
         preferred_providers text[]);
  insert into public.pricing_tiers (version, tier, markup, monthly_credits, rollover_max, low_balance_below, position)
  select v_version, t.key, r.markup, r.monthly_credits, r.rollover_max, r.low_balance_below, r.position
    from jsonb_each(v_after -> 'tiers') as t
   cross join lateral jsonb_to_record(t.value) as r(
         markup numeric, monthly_credits numeric, rollover_max numeric, low_balance_below numeric, position int);

  perform internal.audit(v_actor, 'prices.published', 'pricing_versions', v_version::text, p_note, null,
    jsonb_build_object('effective_from', v_from, 'changes', v_changes), p_request_id);
  return jsonb_build_object('version', v_version, 'effective_from', v_from, 'note', p_note, 'changes', v_changes);
end
$$;

-- sql/50_credits/record_credit_purchase.sql

-- Grants a package of credits that was paid for: what a payment provider's webhook calls, and an administrator for it. The
-- user's largest waiting discount is spent on it, unless the whole price was paid. A package that is no longer on offer is
-- granted all the same, because it was paid. Returns {transaction_id, credits, price, currency, discount, amount_due,
-- new_balance, account}.
--
-- Replay:  the same payment again is answered as the first time, with "replayed", for ever, whatever its amount.
-- Locks:   the user's credits.
-- Refuses: forbidden, user_not_found, invalid_body, package_not_found, own_event, payment_mismatch: less was paid than is due;
--          nonce_reused: the user's payment came with another package before.

create or replace function public.record_credit_purchase(
  p_user_id     uuid,
  p_account     text,
  p_package     text,
  p_payment_id  text,
  p_amount_paid numeric default null,
  p_actor       text default null,
  p_request_id  text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_buyer uuid := internal.user_of_account(p_account);
  v_key text := 'purchase:' || p_payment_id;
  v_hash text := internal.request_hash(jsonb_build_object('package', p_package));
  v_id uuid;
  v_package public.credit_packages;
  v_offer record;
  v_discount numeric;
  v_transaction public.credit_transactions;
  v_is_new boolean;
begin
  if coalesce(p_payment_id, '') !~ '^\S{1,200}$' then
    perform internal.refuse('invalid_body', 'payment_id: must be 1 to 200 characters without blanks');
  elsif not (p_amount_paid >= 0 and p_amount_paid < 1e12) then
    perform internal.refuse('invalid_body', 'amount_paid: must be an amount');
  end if;
  if v_buyer = p_user_id then
    perform internal.refuse('own_event', 'account: nobody records a payment of their own');
  end if;
  perform internal.lock_credits(array[v_buyer]);

  select t.* into v_transaction from public.credit_transactions as t where t.user_id = v_buyer and t.idempotency_key = v_key;
  v_is_new := v_transaction.id is null;
  if not v_is_new and v_transaction.request_hash is distinct from v_hash then
    perform internal.refuse('nonce_reused', format('payment_id: %s came with another package before', p_payment_id));
  end if;

  if v_is_new then
    select p.* into v_package from public.credit_packages as p where p.package = p_package;
    if v_package.package is null then
      perform internal.refuse('package_not_found', format('package: %s', p_package));
    end if;
    select d.* into v_offer
      from internal.waiting_discount(v_buyer) as d
     where v_package.price > 0 and (p_amount_paid >= v_package.price) is not true;
    v_discount := coalesce(round(v_package.price * v_offer.percent / 100, 2), 0);
    if p_amount_paid < v_package.price - v_discount then
      perform internal.refuse('payment_mismatch', format('amount_paid: %s %s is due, and %s was paid',
        v_package.price - v_discount, v_package.currency, p_amount_paid));
    end if;

    perform internal.expire_credit_lots(array[v_buyer]);
    -- Ids tell the order, so it is made when everything before has happened.
    v_id := internal.uuidv7();
    perform internal.move_credits(array[internal.credit_move(
      v_buyer, v_package.credits, 'purchase', p_id => v_id, p_reason => format('Package %s', p_package),
      p_metadata => jsonb_build_object(
        'payment_id', p_payment_id, 'package', p_package, 'price', internal.credits_json(v_package.price), 'currency', v_package.currency,
        'discount', internal.credits_json(v_discount), 'amount_due', internal.credits_json(v_package.price - v_discount), 'code', v_offer.code),
      p_idempotency_key => v_key, p_request_hash => v_hash, p_actor => v_actor, p_request_id => p_request_id)]);
    update public.coupon_redemptions as r
       set spent_on = v_id
     where r.user_id = v_buyer and r.code = v_offer.code and r.redemption = v_offer.redemption;
    select t.* into v_transaction from public.credit_transactions as t where t.user_id = v_buyer and t.id = v_id;
  end if;

  return jsonb_build_object(
           'transaction_id', v_transaction.id, 'credits', internal.credits_json(v_transaction.amount),
           'price', v_transaction.metadata -> 'price', 'currency', v_transaction.metadata -> 'currency',
           'discount', v_transaction.metadata -> 'discount', 'amount_due', v_transaction.metadata -> 'amount_due',
           'new_balance', internal.credits_json(v_transaction.balance_after),
           'account', internal.credit_account(v_buyer), 'replayed', not v_is_new);
end
$$;

-- sql/50_credits/record_one_use.sql

-- Writes down one use of a model: what internal.record_usage does with a set of one. Three short statements cost less than the
-- one that handles sets.
--
-- Replay:  none by itself: an event that is there already is an error.
-- Locks:   the user's row of the rollup.
-- Refuses: nothing.

create or replace function internal.record_one_use(p_event public.usage_events)
returns void
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_month date;
begin
  p_event.created_at := coalesce(p_event.created_at, v_now);
  p_event.tokens_used := coalesce(p_event.tokens_used, 0);
  p_event.cost := coalesce(p_event.cost, 0);
  p_event.success := coalesce(p_event.success, true);
  v_month := date_trunc('month', p_event.created_at)::date;

  insert into public.usage_events (
         user_id, id, event_type, service, provider, model, power_level, tokens_used, cost, success, metadata, tier,
         pricing_version, transaction_id, source, payload_hash, created_at, recorded_at)
  values (p_event.user_id, coalesce(p_event.id, internal.uuidv7()), coalesce(p_event.event_type, 'usage'), p_event.service,
          p_event.provider, p_event.model, p_event.power_level, p_event.tokens_used, p_event.cost, p_event.success, p_event.metadata,
          p_event.tier, p_event.pricing_version, p_event.transaction_id, p_event.source, p_event.payload_hash, p_event.created_at, v_now);

  p_event.provider := coalesce(p_event.provider, '');
  p_event.model := coalesce(p_event.model, '');
  p_event.power_level := coalesce(p_event.power_level, '');
  insert into public.usage_rollups as r (user_id, month, provider, model, power_level, events, failures, tokens, cost)
  values (p_event.user_id, v_month, p_event.provider, p_event.model, p_event.power_level, 1, (not p_event.success)::int,
          p_event.tokens_used, p_event.cost)
  on conflict (user_id, month, provider, model, power_level) do update
     set events   = r.events + excluded.events,
         failures = r.failures + excluded.failures,
         tokens   = r.tokens + excluded.tokens,
         cost     = r.cost + excluded.cost;

  insert into internal.usage_deltas (month, provider, model, power_level, events, failures, tokens, cost)
  values (v_month, p_event.provider, p_event.model, p_event.power_level, 1, (not p_event.success)::int, p_event.tokens_used, p_event.cost);
end
$$;

-- sql/50_credits/record_usage.sql

-- Writes down uses of models, and sums them up in the same transaction: the only way usage is written. What an event does
-- not say is as the table's defaults have it. Whoever calls it holds internal.lock_credits for all of the users.
-- An event counts in the month, in UTC, in which it happened, whenever it is recorded.
--
-- Replay:  none by itself: an event that is there already is an error.
-- Locks:   the users' rows of the rollup, in order; everybody's sums are only added to, so nobody waits there.
-- Refuses: nothing.

create or replace function internal.record_usage(p_events public.usage_events[])
returns void
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  if cardinality(p_events) = 1 then
    perform internal.record_one_use(p_events[1]);
    return;
  end if;

  with event as materialized (
    select e.user_id, coalesce(e.id, internal.uuidv7()) as id, coalesce(e.event_type, 'usage') as event_type, e.service, e.provider,
           e.model, e.power_level, coalesce(e.tokens_used, 0) as tokens_used, coalesce(e.cost, 0) as cost,
           coalesce(e.success, true) as success, e.metadata, e.tier, e.pricing_version, e.transaction_id, e.source, e.payload_hash,
           w.happened_at as created_at, date_trunc('month', w.happened_at)::date as month,
           coalesce(e.provider, '') as rolled_provider, coalesce(e.model, '') as rolled_model,
           coalesce(e.power_level, '') as rolled_power_level
      from unnest(p_events) as e
     cross join lateral (select coalesce(e.created_at, v_now) as happened_at) as w
  ), stored as (
    insert into public.usage_events as u (
           user_id, id, event_type, service, provider, model, power_level, tokens_used, cost, success, metadata, tier,
           pricing_version, transaction_id, source, payload_hash, created_at, recorded_at)
    select e.user_id, e.id, e.event_type, e.service, e.provider, e.model, e.power_level, e.tokens_used, e.cost, e.success, e.metadata,
           e.tier, e.pricing_version, e.transaction_id, e.source, e.payload_hash, e.created_at, v_now
      from event as e
  ), rolled as (
    insert into public.usage_rollups as r (user_id, month, provider, model, power_level, events, failures, tokens, cost)
    select e.user_id, e.month, e.rolled_provider, e.rolled_model, e.rolled_power_level,
           count(*), count(*) filter (where not e.success), sum(e.tokens_used), sum(e.cost)
      from event as e
     group by 1, 2, 3, 4, 5
     order by 1, 2, 3, 4, 5
    on conflict (user_id, month, provider, model, power_level) do update
       set events   = r.events + excluded.events,
           failures = r.failures + excluded.failures,
           tokens   = r.tokens + excluded.tokens,
           cost     = r.cost + excluded.cost
  )
  insert into internal.usage_deltas (month, provider, model, power_level, events, failures, tokens, cost)
  select e.month, e.rolled_provider, e.rolled_model, e.rolled_power_level,
         count(*), count(*) filter (where not e.success), sum(e.tokens_used), sum(e.cost)
    from event as e
   group by 1, 2, 3, 4;
end
$$;

-- sql/50_credits/record_usage_refund.sql

-- Takes what was refunded of a usage off what its month cost, the user's and everybody's, so that the monthly cap gets it back
-- where the usage is this month's. A usage that no event tells of is in no month.
--
-- Replay:  none by itself.
-- Locks:   the user's row of the rollup.
-- Refuses: nothing.

create or replace function internal.record_usage_refund(p_user_id uuid, p_transaction_id uuid, p_amount numeric)
returns void
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  with event as materialized (
    select e.user_id, date_trunc('month', e.created_at)::date as month, coalesce(e.provider, '') as provider,
           coalesce(e.model, '') as model, coalesce(e.power_level, '') as power_level
      from public.usage_events as e
     where e.user_id = p_user_id and e.transaction_id = p_transaction_id
     order by e.id
     limit 1
  ), rolled as (
    update public.usage_rollups as r
       set refunded = r.refunded + p_amount
      from event as e
     where r.user_id = e.user_id and r.month = e.month and r.provider = e.provider and r.model = e.model
       and r.power_level = e.power_level
  )
  insert into internal.usage_deltas (month, provider, model, power_level, events, failures, tokens, cost, refunded)
  select e.month, e.provider, e.model, e.power_level, 0, 0, 0, 0, p_amount from event as e;
end
$$;

-- sql/50_credits/redeem_promotion.sql

-- Takes a promotional code: its credits come at once, a discount waits for the next purchase. Returns {code, discount_type,
-- discount_value, credits, new_balance, transaction_id, expires_at, account}.
--
-- Replay:  the same code under the same key is answered as the first time, with "replayed". Without a key, a code that may be
--          taken once is coupon_used the second time, and the statement tells what the first one brought.
-- Locks:   nobody else shows a code from the same user, device or address meanwhile; then the user's credits; then the code.
-- Refuses: invalid_body; rate_limited, coupon_not_valid (unknown, switched off, too early, too late, used up: all alike), both returned as
--          {"refusal": …}, because they are remembered; coupon_used; nonce_reused.

create or replace function public.redeem_promotion(
  p_user_id         uuid,
  p_code            text,
  p_ip_address      inet default null,
  p_device_id       text default null,
  p_idempotency_key text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_code text := internal.promotion_code(p_code);
  v_hash text := internal.request_hash(jsonb_build_object('promotion', v_code));
  v_id uuid;
  v_refusal jsonb;
  v_terms record;
  v_is_taken boolean := false;
  v_transaction public.credit_transactions;
  v_redemption public.coupon_redemptions;
begin
  perform internal.act_for(array[p_user_id]);
  if internal.is_system_key(p_idempotency_key) then
    perform internal.refuse('invalid_body', 'idempotency_key: must not begin with purchase: or allocation:');
  end if;
  v_refusal := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;
  perform internal.lock_credits(array[p_user_id]);

  select t.* into v_transaction
    from public.credit_transactions as t
   where t.user_id = p_user_id and t.idempotency_key = p_idempotency_key;
  if v_transaction.request_hash is distinct from v_hash and v_transaction.id is not null then
    perform internal.refuse('nonce_reused', format('idempotency_key: %s came with another request before', p_idempotency_key));
  end if;

  if v_transaction.id is null then
    select t.* into v_terms from internal.promotion_terms(p_user_id, v_code) as t;
    if v_terms.is_used then
      perform internal.refuse('coupon_used', format('code: %s was redeemed by this user as often as allowed', v_code));
    elsif v_terms.is_valid then
      -- Somebody else may have had the last one since, or an administrator the code.
      update public.coupon_codes as c
         set times_used = c.times_used + 1
       where c.code = v_code and c.is_active and (c.times_used < c.max_uses) is not false;
      v_is_taken := found;
    end if;
    if not v_is_taken then
      return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
    end if;

    perform internal.expire_credit_lots(array[p_user_id]);
    -- Ids tell the order, so it is made when everything before has happened.
    v_id := internal.uuidv7();
    perform internal.move_credits(array[internal.credit_move(
      p_user_id, v_terms.credits, 'bonus', p_id => v_id, p_reason => coalesce(v_terms.description, format('Promotional code %s', v_code)),
      p_metadata => jsonb_build_object('code', v_code, 'discount_type', v_terms.discount_type,
                                       'discount_value', internal.credits_json(v_terms.discount_value)),
      p_idempotency_key => p_idempotency_key, p_request_hash => v_hash, p_request_id => p_request_id,
      p_source => v_terms.source, p_priority => v_terms.priority, p_expires_at => v_terms.lasts_until)]);
    insert into public.coupon_redemptions (user_id, code, redemption, discount_type, discount_value, transaction_id, expires_at, redeemed_at)
    values (p_user_id, v_code, v_terms.redemption, v_terms.discount_type, v_terms.discount_value, v_id, v_terms.lasts_until, internal.clock())
    returning * into v_redemption;
  else
    select r.* into v_redemption
      from public.coupon_redemptions as r
     where r.user_id = p_user_id and r.transaction_id = v_transaction.id;
  end if;
  return (
    select jsonb_build_object(
             'code', v_code, 'discount_type', v_redemption.discount_type,
             'discount_value', internal.credits_json(v_redemption.discount_value), 'credits', internal.credits_json(t.amount),
             'new_balance', internal.credits_json(t.balance_after), 'transaction_id', t.id, 'expires_at', v_redemption.expires_at,
             'account', internal.credit_account(p_user_id), 'replayed', not v_is_taken)
      from public.credit_transactions as t
     where t.user_id = p_user_id and t.id = v_redemption.transaction_id);
end
$$;

-- sql/50_credits/reencrypt_openrouter_account.sql

-- Stores a user's key for OpenRouter as encrypted under a newer key, if it is still the one that was read: for whoever rotates all of them.
-- Nothing else about the account changes. The answer's "rotated" says whether it was stored.
--
-- Replay:  "rotated" is false: what was read is not stored any more.
-- Locks:   the user's row.
-- Refuses: invalid_body.

create or replace function public.reencrypt_openrouter_account(p_user_id uuid, p_seen text, p_reencrypted text, p_key_id text)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform internal.act_for(array[p_user_id]);
  perform internal.check_encrypted(coalesce(p_reencrypted, ''), p_key_id);
  update public.openrouter_accounts as a
     set openrouter_api_key_encrypted = p_reencrypted, key_id = p_key_id, updated_at = internal.clock()
   where a.user_id = p_user_id and a.openrouter_api_key_encrypted = p_seen;
  return jsonb_build_object('rotated', found);
end
$$;

-- sql/50_credits/refund_credits.sql

-- Gives back what a usage cost, or a part of it: to the lots it came from, and to the month it was of. An administrator's or
-- a program's decision. Returns {transaction_id, refunded, new_balance, account}; the transaction is the refund's own.
--
-- Replay:  under a key of the user's the same refund is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_credits; the usage's row of the rollup.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, user_not_found, own_event, transaction_not_found,
--          not_refundable, refund_exceeded, nonce_reused.

create or replace function public.refund_credits(
  p_user_id         uuid,
  p_account         text,
  p_transaction_id  uuid,
  p_amount          numeric default null,
  p_reason          text default null,
  p_idempotency_key text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_account uuid := internal.user_of_account(p_account);
  v_hash text := internal.request_hash(jsonb_build_object(
    'refund', p_transaction_id, 'amount', trim_scale(p_amount), 'reason', p_reason));
  v_id uuid;
  v_usage public.credit_transactions;
  v_left numeric;
  v_refund public.credit_transactions;
  v_replayed boolean;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif v_account = p_user_id then
    perform internal.refuse('own_event', 'account: nobody refunds credits to themselves');
  elsif p_amount <= 0 or p_amount > 1000000000 or scale(trim_scale(p_amount)) > 6 then
    perform internal.refuse('invalid_amount', 'amount: must be greater than zero, with at most six decimal places');
  elsif length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  elsif internal.is_system_key(p_idempotency_key) then
    perform internal.refuse('invalid_body', 'idempotency_key: must not begin with purchase: or allocation:');
  end if;

  perform internal.lock_credits(array[v_account]);
  perform internal.expire_credit_lots(array[v_account]);

  select t.* into v_refund
    from public.credit_transactions as t where t.user_id = v_account and t.idempotency_key = p_idempotency_key;
  v_replayed := v_refund.id is not null;
  if v_replayed and v_refund.request_hash is distinct from v_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;

  if not v_replayed then
    select t.* into v_usage from public.credit_transactions as t where t.user_id = v_account and t.id = p_transaction_id;
    if v_usage.id is null then
      perform internal.refuse('transaction_not_found', format('transaction_id: %s', p_transaction_id));
    elsif v_usage.transaction_type <> 'usage' then
      perform internal.refuse('not_refundable', format('transaction_id: this is a %s', v_usage.transaction_type));
    end if;
    v_left := -v_usage.amount - coalesce((
      select sum(t.amount) from public.credit_transactions as t where t.user_id = v_account and t.refund_of = p_transaction_id), 0);
    if coalesce(p_amount, 0) > v_left or v_left = 0 then
      perform internal.refuse('refund_exceeded', format('amount: %s of %s are left to refund',
        internal.credits_text(v_left), internal.credits_text(-v_usage.amount)));
    end if;

    -- Ids tell the order, so it is made when everything before has happened.
    v_id := internal.uuidv7();
    perform from internal.move_credits(array[internal.credit_move(
      v_account, coalesce(p_amount, v_left), 'refund', p_id => v_id, p_reason => p_reason, p_provider => v_usage.provider,
      p_model => v_usage.model, p_power_level => v_usage.power_level, p_refund_of => v_usage.id,
      p_idempotency_key => p_idempotency_key, p_request_hash => v_hash, p_actor => v_actor, p_request_id => p_request_id)]);
    select t.* into v_refund from public.credit_transactions as t where t.user_id = v_account and t.id = v_id;
    perform internal.record_usage_refund(v_account, p_transaction_id, v_refund.amount);
    perform internal.audit(
      v_actor, 'credits.refund', 'user', v_account::text, p_reason,
      jsonb_build_object('balance', internal.credits_json(v_refund.balance_after - v_refund.amount)),
      jsonb_build_object('balance', internal.credits_json(v_refund.balance_after), 'amount', internal.credits_json(v_refund.amount),
        'refund_of', p_transaction_id, 'transaction_id', v_refund.id), p_request_id);
  end if;

  return jsonb_build_object(
      'transaction_id', v_refund.id, 'refunded', internal.credits_json(v_refund.amount),
      'new_balance', internal.credits_json(v_refund.balance_after),
      'account', internal.credit_account(v_account))
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/50_credits/release_credits.sql

-- Gives back what was reserved for a call of a model that is not made: internal.release_credits_batch for one request.
-- Returns {reservation_id, released, available, account, replayed}.
--
-- Replay, Locks, Refuses: as internal.release_credits_batch.

create or replace function public.release_credits(p_user_id uuid, p_reservation_id uuid, p_by_user boolean default false)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.release_credits_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'reservation_id', p_reservation_id, 'by_user', p_by_user))) as o;
  return internal.single(v_outcome);
end
$$;

-- sql/50_credits/release_credits_batch.sql

-- Gives back what was reserved for a call of a model that is not made. Each request bears the arguments of
-- public.release_credits.
-- by_user: it is asked with the user's own token.
--
-- Replay:  what was released already is answered as the first time, with "replayed".
-- Locks:   internal.lock_credits.
-- Refuses: reservation_not_found, forbidden, reservation_closed.

create or replace function internal.release_credits_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_judged jsonb;
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);

  with judged as materialized (
    select e.position, r.user_id, r.reservation_id, v.amount, v.available_again, s.status,
           case when v.id is null then 'reservation_not_found'
                when r.by_user is not false and not v.by_user then 'forbidden'
                when s.status = 'released' then 'known'
                when s.status <> 'held' then 'reservation_closed' end as verdict
      from jsonb_array_elements(p_requests) with ordinality as e(request, position)
     cross join lateral jsonb_to_record('{"by_user": false}'::jsonb || e.request) as r(user_id uuid, reservation_id uuid, by_user boolean)
      left join lateral (
           select x.*, x as row from public.credit_reservations as x
            where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as v on true
      left join lateral (
           select x.id from public.credit_transactions as x
            where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as t on true
      left join lateral (
           select x.status from ledger.holds as x
            where x.book_id = r.user_id and x.hold_id = r.reservation_id limit 1) as h on true
     cross join lateral (values (internal.credit_reservation_status(v.row, h.status, t.id is not null))) as s(status)
  ), closed as materialized (
    select ledger.close_holds(array(
             select row(j.user_id, j.reservation_id, null, null, null, null, null, null, null, null, null)::ledger.holds
               from judged as j
              where j.verdict is null and j.amount > 0), 'released') as holds
  )
  select jsonb_agg(to_jsonb(j)) into v_judged from judged as j where (select c.holds from closed as c) >= 0;

  -- What a reservation held of a lot that has ended meanwhile is not available again.
  perform internal.expire_credit_lots(v_users);

  return query
  with judged as materialized (
    select j.*, a.available, c.balance, c.tier, c.monthly_cap, c.version
      from jsonb_to_recordset(v_judged) as j(
             position int, user_id uuid, reservation_id uuid, amount numeric, available_again numeric, status text, verdict text)
      left join lateral (
           select (x.balance - x.held) / 1000000.0 as available from ledger.accounts as x
            where x.book_id = j.user_id and x.account = 'credits' limit 1) as a on true
      left join lateral (
           select x.balance, x.tier, x.monthly_cap, x.version from public.user_credits as x
            where x.user_id = j.user_id limit 1) as c on true
  ), released as (
    update public.credit_reservations as r
       set released_at = case when j.amount = 0 then internal.clock() end, available_again = coalesce(j.available, 0)
      from judged as j
     where r.user_id = j.user_id and r.id = j.reservation_id and j.verdict is null
    returning r.user_id, r.available_again
  )
  select j.position,
         case when j.verdict is null or j.verdict = 'known' then jsonb_build_object(
           'reservation_id', j.reservation_id, 'released', internal.credits_json(j.amount),
           'available', internal.credits_json(coalesce(r.available_again, j.available_again)),
           'account', jsonb_build_object(
             'user_id', j.user_id, 'balance', internal.credits_json(coalesce(j.balance, 0)), 'tier', coalesce(j.tier, 'free'),
             'monthly_cap', internal.credits_json(j.monthly_cap), 'version', coalesce(j.version, 0)), 'replayed', j.verdict is not null) end,
         case when j.verdict <> 'known' then internal.refusal(j.verdict, case j.verdict
           when 'reservation_not_found' then format('reservation_id: there is no reservation %s', j.reservation_id)
           when 'forbidden' then 'Who reserved it releases it.'
           else format('reservation_id: it was %s already', j.status) end) end
    from judged as j
    left join released as r on r.user_id = j.user_id;
end
$$;

-- sql/50_credits/request_hash.sql

-- What tells one request from another that comes under the same key.

create or replace function internal.request_hash(p_request jsonb)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return encode(sha256(convert_to(p_request::text, 'UTF8')), 'hex');
end
$$;

-- sql/50_credits/reserve_credits.sql

-- Sets credits aside before a call of a model: internal.reserve_credits_batch for one request.
-- Returns {reservation_id, reserved, is_price_known, expires_at, balance, available, account, replayed}.
--
-- Replay, Locks, Refuses: as internal.reserve_credits_batch.

create or replace function public.reserve_credits(
  p_user_id            uuid,
  p_model              text default null,
  p_provider           text default null,
  p_power_level        text default 'balanced',
  p_max_tokens         bigint default null,
  p_max_cost           numeric default null,
  p_expires_in_seconds int default 600,
  p_metadata           jsonb default null,
  p_by_user            boolean default false,
  p_idempotency_key    text default null,
  p_request_id         text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.reserve_credits_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'model', p_model, 'provider', p_provider, 'power_level', p_power_level, 'max_tokens', p_max_tokens,
           'max_cost', p_max_cost, 'expires_in_seconds', p_expires_in_seconds, 'metadata', p_metadata, 'by_user', p_by_user,
           'idempotency_key', p_idempotency_key, 'request_id', p_request_id))) as o;
  return internal.single(v_outcome);
end
$$;

-- sql/50_credits/reserve_credits_batch.sql

-- Sets credits aside before a call of a model, as many as it can cost at most, so that calls made at the same time never cost
-- more together than there is, nor than the month's cap. Each request bears the arguments of public.reserve_credits.
-- max_tokens: how many tokens the call can use; else as many as the power level allows. max_cost lowers what is set aside.
-- Where no price is known, what the power level allows a request to cost is set aside, and where it says nothing, nothing is.
-- What is free is reserved too, without a hold: the user may have nothing at all.
-- by_user: it was asked with the user's own token, who then may settle and release it. What a program reserved, a program ends.
--
-- Replay:  the same request under the same key gets the first answer again, with "replayed"; another one under it is refused.
-- Locks:   internal.lock_credits.
-- Refuses: invalid_body, invalid_amount, nonce_reused, price_unknown, monthly_cap_reached, insufficient_credits.

create or replace function internal.reserve_credits_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_version int := internal.pricing_version();
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  return query
  with request as materialized (
    select e.position, r.*,
           internal.request_hash(jsonb_build_object(
             'model', r.model, 'provider', r.provider, 'power_level', r.power_level, 'max_tokens', r.max_tokens,
             'max_cost', trim_scale(r.max_cost), 'expires_in_seconds', r.expires_in_seconds, 'metadata', r.metadata,
             'by_user', r.by_user)) as request_hash,
           -- What cannot be compared is no amount either.
           case when length(r.model) > 200 then 'model: must have at most 200 characters'
                when length(r.provider) > 100 then 'provider: must have at most 100 characters'
                when r.max_tokens not between 1 and 1000000000000 then 'max_tokens: must lie between 1 and 1000000000000'
                when (r.max_cost >= 0.000001 and r.max_cost < 1000000000) is false
                     then 'max_cost: must lie between 0.000001 and 1000000000'
                when (r.expires_in_seconds between 1 and 86400) is not true
                     then 'expires_in_seconds: must lie between 1 and 86400' end as fault
      from jsonb_array_elements(p_requests) with ordinality as e(request, position)
     cross join lateral jsonb_to_record(
             '{"power_level": "balanced", "expires_in_seconds": 600, "by_user": false}'::jsonb || e.request) as r(
             user_id uuid, model text, provider text, power_level text, max_tokens bigint, max_cost numeric,
             expires_in_seconds int, metadata jsonb, by_user boolean, idempotency_key text, request_id text)
  ), priced as materialized (
    select r.*, coalesce(c.tier, 'free') as tier, c.monthly_cap, coalesce(c.balance, 0) as cached, coalesce(c.version, 0) as version,
           coalesce(a.balance, 0) as balance, coalesce(a.held, 0) as held, coalesce(a.floor, 0) as floor, k as known,
           coalesce(r.max_tokens, l.max_tokens) as tokens, p.is_known, p.power_level as priced_level,
           least(case when p.is_known then p.cost else l.max_cost_per_request end, trunc(r.max_cost, 6)) as amount,
           p.is_known is false and l.max_cost_per_request is null as is_unknown
      from request as r
      left join lateral (
           select x.tier, x.monthly_cap, x.balance, x.version from public.user_credits as x
            where x.user_id = r.user_id limit 1) as c on true
      left join lateral (
           select x.balance / 1000000.0 as balance, x.held / 1000000.0 as held, x.floor / 1000000.0 as floor
             from ledger.accounts as x where x.book_id = r.user_id and x.account = 'credits' limit 1) as a on true
      left join lateral (
           select x.* from public.credit_reservations as x
            where x.user_id = r.user_id and x.idempotency_key = r.idempotency_key limit 1) as k on true
      left join lateral (
           select x.max_tokens, x.max_cost_per_request from public.pricing_power_levels as x
            where x.version = v_version and x.power_level in (r.power_level, 'balanced')
            order by x.power_level = r.power_level desc limit 1) as l on true
      -- The limit keeps the condition in front of the call: what is refused or known already is not priced.
      left join lateral (
           select x.* from internal.credit_cost(
                    coalesce(r.max_tokens, l.max_tokens), r.model, r.provider, r.power_level, coalesce(c.tier, 'free'), v_version) as x
            where r.fault is null and k.id is null limit 1) as p on true
  ), judged as materialized (
    -- What costs nothing is refused to nobody.
    select p.*, p.balance - p.held - p.amount as available,
           case when p.fault is not null then case when p.fault ~ '^max_' then 'invalid_amount' else 'invalid_body' end
                when (p.known).request_hash <> p.request_hash then 'nonce_reused'
                when (p.known).id is not null then 'known'
                when p.is_unknown then 'price_unknown'
                when p.amount > 0 and p.monthly_cap is not null and p.amount > internal.monthly_cap_room(p.user_id)
                     then 'monthly_cap_reached'
                when p.amount > 0 and p.balance - p.held - p.amount < p.floor then 'insufficient_credits' end as verdict
      from priced as p
  ), accepted as materialized (
    select j.*, internal.uuidv7() as id, v_now + make_interval(secs => j.expires_in_seconds) as expires_at
      from judged as j
     where j.verdict is null
  ), held as materialized (
    select ledger.hold_many(array(
             select row(a.user_id, a.id, 'credits', (a.amount * 1000000)::bigint, 0, 'held', 'credit_reservation', a.id, a.expires_at,
                        v_now, null)::ledger.holds
               from accepted as a
              where a.amount > 0)) as holds
  ), stored as (
    insert into public.credit_reservations as r (
           user_id, id, amount, model, provider, power_level, tokens, tier, pricing_version, is_price_known, by_user, balance, available,
           metadata, idempotency_key, request_hash, request_id, expires_at, created_at)
    select a.user_id, a.id, a.amount, a.model, a.provider, a.priced_level, a.tokens, a.tier, v_version, a.is_known, a.by_user, a.balance,
           a.available, a.metadata, a.idempotency_key, a.request_hash, a.request_id, a.expires_at, v_now
      from accepted as a
     where (select h.holds from held as h) >= 0
    returning r.*
  ), answered as (
    select j.*, coalesce(s.id, (j.known).id) as reservation_id, coalesce(s.amount, (j.known).amount) as told_amount,
           coalesce(s.is_price_known, (j.known).is_price_known) as told_known, coalesce(s.expires_at, (j.known).expires_at) as told_until,
           coalesce(s.balance, (j.known).balance) as told_balance, coalesce(s.available, (j.known).available) as told_available
      from judged as j
      left join stored as s on s.user_id = j.user_id
  )
  select j.position::int,
         case when j.verdict is null or j.verdict = 'known' then jsonb_build_object(
           'reservation_id', j.reservation_id, 'reserved', internal.credits_json(j.told_amount), 'is_price_known', j.told_known,
           'expires_at', j.told_until, 'balance', internal.credits_json(j.told_balance),
           'available', internal.credits_json(j.told_available), 'account', jsonb_build_object(
             'user_id', j.user_id, 'balance', internal.credits_json(j.cached), 'tier', j.tier,
             'monthly_cap', internal.credits_json(j.monthly_cap), 'version', j.version), 'replayed', j.verdict is not null) end,
         case when j.verdict <> 'known' then internal.refusal(j.verdict, case j.verdict
           when 'nonce_reused' then 'idempotency_key: it was used for another reservation'
           when 'price_unknown' then 'model: it has no price, and the power level no highest cost of a request'
           when 'monthly_cap_reached' then internal.monthly_cap_detail(j.monthly_cap)
           when 'insufficient_credits' then format('Insufficient credits. Balance: %s, Required: %s',
             internal.credits_text(j.balance - j.held - j.floor), internal.credits_text(j.amount))
           else j.fault end) end
    from answered as j;
end
$$;

-- sql/50_credits/set_monthly_cap.sql

-- Sets what a calendar month's usage may cost a user; null removes the cap. One that is less than what is spent already only
-- stops further spending.
--
-- Replay:  setting the same again changes nothing.
-- Locks:   internal.lock_credits.
-- Refuses: invalid_amount.

create or replace function public.set_monthly_cap(p_user_id uuid, p_monthly_cap numeric default null, p_request_id text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_before numeric;
begin
  perform internal.act_for(array[p_user_id]);
  if (p_monthly_cap >= 0 and p_monthly_cap < 1000000000000) is false then
    perform internal.refuse('invalid_amount', 'monthly_cap: must lie between 0 and 1000000000000');
  end if;
  perform internal.lock_credits(array[p_user_id]);

  select c.monthly_cap into v_before from public.user_credits as c where c.user_id = p_user_id;
  insert into public.user_credits as c (user_id, monthly_cap, version)
  values (p_user_id, trunc(p_monthly_cap, 6), 1)
  on conflict (user_id) do update
     set monthly_cap = excluded.monthly_cap, version = c.version + 1, updated_at = internal.clock()
   where c.monthly_cap is distinct from excluded.monthly_cap;
  if v_before is distinct from trunc(p_monthly_cap, 6) then
    perform internal.audit(p_user_id::text, 'credits.monthly_cap', 'user', p_user_id::text, null,
      jsonb_build_object('monthly_cap', internal.credits_json(v_before)),
      jsonb_build_object('monthly_cap', internal.credits_json(trunc(p_monthly_cap, 6))), p_request_id);
  end if;

  return internal.monthly_cap(p_user_id) || jsonb_build_object('account', internal.credit_account(p_user_id));
end
$$;

-- sql/50_credits/settle_credits.sql

-- Charges what a call of a model came to, out of what was reserved for it: internal.settle_credits_batch for one request.
-- Returns {transaction_id, cost, charged, released, shortfall, new_balance, account, replayed}.
--
-- Replay, Locks, Refuses: as internal.settle_credits_batch.

create or replace function public.settle_credits(
  p_user_id        uuid,
  p_reservation_id uuid,
  p_tokens_used    bigint default null,
  p_cost           numeric default null,
  p_success        boolean default true,
  p_metadata       jsonb default null,
  p_by_user        boolean default false,
  p_request_id     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.settle_credits_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'reservation_id', p_reservation_id, 'tokens_used', p_tokens_used, 'cost', p_cost, 'success', p_success,
           'metadata', p_metadata, 'by_user', p_by_user, 'request_id', p_request_id))) as o;
  return internal.single(v_outcome);
end
$$;

-- sql/50_credits/settle_credits_batch.sql

-- Charges what a call of a model came to, out of what was reserved for it, and gives back the rest. Each request bears the
-- arguments of public.settle_credits.
-- Tokens are priced as they were when it was reserved: the same model, provider, power level, tier and price list; without a
-- known price at the default one. A program that knows the cost says the cost instead. A call that failed may have used neither.
-- What costs more than was reserved is taken from what is available besides, within the month's cap. What cannot be had is
-- told as the shortfall, and kept as the difference between the transaction's cost and its amount. A call that cost nothing is
-- written down with a transaction of nothing.
-- by_user: it is asked with the user's own token.
--
-- Replay:  the transaction bears the reservation's id. The same settlement gets the first answer again, with "replayed".
-- Locks:   internal.lock_credits.
-- Refuses: invalid_body, invalid_amount, reservation_not_found, forbidden, reservation_closed.

create or replace function internal.settle_credits_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_outcomes internal.outcome[];
  v_uncharged int;
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);
  -- While they are still held, so that what was reserved outlives its lot.
  perform internal.expire_credit_lots(v_users);

  v_outcomes := array(
    with request as materialized (
      select e.position, r.user_id, r.reservation_id, r.tokens_used, r.cost, s.success, r.metadata, r.by_user, r.request_id,
             internal.request_hash(jsonb_build_object(
               'tokens_used', r.tokens_used, 'cost', trim_scale(r.cost), 'success', s.success, 'metadata', r.metadata)) as request_hash,
             case when r.tokens_used is not null and r.cost is not null then 'cost: either the tokens or the cost, not both'
                  when r.tokens_used is null and r.cost is null and s.success
                       then 'tokens_used: a call that succeeded used tokens, or had a cost' end as fault,
             case when r.tokens_used not between 0 and 1000000000000 then 'tokens_used: must lie between 0 and 1000000000000'
                  when (r.cost >= 0 and r.cost < 1000000000) is false then 'cost: must lie between 0 and 1000000000' end as excess
        from jsonb_array_elements(p_requests) with ordinality as e(request, position)
       cross join lateral jsonb_to_record('{"by_user": false}'::jsonb || e.request) as r(
               user_id uuid, reservation_id uuid, tokens_used bigint, cost numeric, success boolean, metadata jsonb, by_user boolean,
               request_id text)
       cross join lateral (values (r.success is not false)) as s(success)
    ), found as materialized (
      select r.*, v.id is not null as is_known, v.amount as reserved, v.by_user as was_by_user, v.provider, v.model, v.power_level, v.tier,
             v.pricing_version, nullif(coalesce(v.metadata, '{}') || coalesce(r.metadata, '{}'), '{}') as all_metadata,
             t.cost as told_cost, -t.amount as told_charge, t.balance_after as told_balance, (t.request_hash = r.request_hash) is true as replayed,
             internal.credit_reservation_status(v.row, h.status, t.id is not null) as status
        from request as r
        left join lateral (
             select x.*, x as row from public.credit_reservations as x
              where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as v on true
        left join lateral (
             select x.* from public.credit_transactions as x
              where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as t on true
        left join lateral (
             select x.status from ledger.holds as x
              where x.book_id = r.user_id and x.hold_id = r.reservation_id limit 1) as h on true
    ), judged as materialized (
      select f.*,
             case when f.fault is not null then 'invalid_body'
                  when f.excess is not null then 'invalid_amount'
                  when not f.is_known then 'reservation_not_found'
                  when f.by_user is not false and not f.was_by_user then 'forbidden'
                  when f.replayed then 'known'
                  when f.status <> 'held' then 'reservation_closed' end as verdict
        from found as f
    ), priced as materialized (
      select j.*, c.tier as account_tier, c.monthly_cap, c.balance, coalesce(c.version, 0) as version, p.cost as price, a.available
        from judged as j
        left join lateral (
             select x.tier, x.monthly_cap, x.balance, x.version from public.user_credits as x
              where x.user_id = j.user_id limit 1) as c on true
        left join lateral (
             select (x.balance::numeric - x.held - x.floor) / 1000000 as available
               from ledger.accounts as x where x.book_id = j.user_id and x.account = 'credits' limit 1) as a on true
        -- The limit keeps the condition in front of the call: what is refused or known already is not priced.
        left join lateral (
             select (case when j.cost is null
                     then coalesce((internal.credit_cost(j.tokens_used, j.model, j.provider, j.power_level, j.tier, j.pricing_version)).cost, 0)
                     else j.cost end)::numeric(18, 6) as cost
              where j.verdict is null limit 1) as p on true
    ), charged as materialized (
      -- What is reserved is counted in the cap already.
      select p.*, case when p.price <= p.reserved then p.price
                       else p.reserved + greatest(0, least(p.price - p.reserved, coalesce(least(
                              p.available, case when p.monthly_cap is not null then internal.monthly_cap_room(p.user_id) end), 0)))
                  end::numeric(18, 6) as charge
        from priced as p
    ), closed as materialized (
      select ledger.close_holds(array(
               select row(c.user_id, c.reservation_id, null, null, (least(c.charge, c.reserved) * 1000000)::bigint, null, null, null, null,
                          null, null)::ledger.holds
                 from charged as c
                where c.verdict is null and c.reserved > 0), 'settled') as holds
    ), move as materialized (
      select internal.credit_move(
               c.user_id, -c.charge, 'usage', p_id => c.reservation_id, p_provider => c.provider, p_model => c.model,
               p_power_level => c.power_level, p_tokens_used => c.tokens_used, p_cost => c.price, p_metadata => c.all_metadata,
               p_request_hash => c.request_hash, p_request_id => c.request_id) as m,
             c.position
        from charged as c
       where c.verdict is null and (select x.holds from closed as x) >= 0
    ), moved as materialized (
      select o.id, o.outcome, o.balance_after
        from internal.move_credits(array(select x.m from move as x order by x.position)) as o
    ), used as materialized (
      select internal.record_usage(array(
               select internal.usage_event(
                        c.user_id, c.charge, c.tokens_used, p_provider => c.provider, p_model => c.model, p_power_level => c.power_level,
                        p_service => left(c.all_metadata ->> 'service', 100), p_success => c.success, p_metadata => c.all_metadata,
                        p_tier => c.tier, p_pricing_version => c.pricing_version, p_transaction_id => c.reservation_id)
                 from charged as c
                where c.verdict is null and (select count(*) from moved) >= 0)) as nothing
    ), answered as (
      select c.*, d.outcome, coalesce(d.balance_after, c.told_balance) as new_balance, coalesce(d.balance_after, c.balance, 0) as balance_now,
             coalesce(c.told_cost, c.price) as final_cost, coalesce(c.told_charge, c.charge) as final_charge
        from charged as c
        left join moved as d on d.id = c.reservation_id and c.verdict is null
    )
    select row(c.position::int,
           case when c.verdict = 'known' or c.outcome = 'posted' then jsonb_build_object(
             'transaction_id', c.reservation_id, 'cost', internal.credits_json(c.final_cost), 'charged', internal.credits_json(c.final_charge),
             'released', internal.credits_json(greatest(c.reserved - c.final_charge, 0)),
             'shortfall', internal.credits_json(c.final_cost - c.final_charge), 'new_balance', internal.credits_json(c.new_balance),
             'account', jsonb_build_object(
               'user_id', c.user_id, 'balance', internal.credits_json(c.balance_now), 'tier', coalesce(c.account_tier, 'free'),
               'monthly_cap', internal.credits_json(c.monthly_cap), 'version', c.version + (c.verdict is null)::int),
             'replayed', c.verdict is not null) end,
           case when c.verdict <> 'known' then internal.refusal(c.verdict, case c.verdict
             when 'invalid_body' then c.fault
             when 'invalid_amount' then c.excess
             when 'reservation_not_found' then format('reservation_id: there is no reservation %s', c.reservation_id)
             when 'forbidden' then 'Who reserved it settles it.'
             else format('reservation_id: it was %s already', c.status) end) end)::internal.outcome
      from answered as c
     cross join (select count(*) from used) as u);

  select o.position into v_uncharged from unnest(v_outcomes) as o where o.answer is null and o.refusal is null limit 1;
  if found then
    raise exception 'what was reserved could not be charged: request %', v_uncharged;
  end if;
  return query select o.* from unnest(v_outcomes) as o;
end
$$;

-- sql/50_credits/store_openrouter_account.sql

-- Keeps a user's key for OpenRouter, encrypted, in the place of the one they had. Whoever calls has shown it to OpenRouter first and tells
-- what that said of the account. The key can be read with ENCRYPTION_KEY only, which the database never has.
--
-- Replay:  the same key again is stored again.
-- Locks:   the user's row.
-- Refuses: invalid_body.

create or replace function public.store_openrouter_account(
  p_user_id                      uuid,
  p_openrouter_api_key_encrypted text,
  p_key_id                       text,
  p_openrouter_account_id        text default null,
  p_free_credits                 numeric default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_account public.openrouter_accounts;
begin
  perform internal.act_for(array[p_user_id]);
  perform internal.check_encrypted(coalesce(p_openrouter_api_key_encrypted, ''), p_key_id);
  insert into public.openrouter_accounts as a (
    user_id, openrouter_api_key_encrypted, key_id, openrouter_account_id, free_credits, last_synced, created_at, updated_at)
  values (p_user_id, p_openrouter_api_key_encrypted, p_key_id, p_openrouter_account_id, p_free_credits, v_now, v_now, v_now)
  on conflict (user_id) do update
     set openrouter_api_key_encrypted = excluded.openrouter_api_key_encrypted, key_id = excluded.key_id,
         openrouter_account_id = excluded.openrouter_account_id, free_credits = excluded.free_credits,
         last_synced = excluded.last_synced, updated_at = excluded.updated_at
  returning a.* into v_account;
  return internal.openrouter_answer(v_account);
end
$$;

-- sql/50_credits/switch_tier.sql

-- Puts a user into another tier: users themselves, administrators too, into a smaller one or one as large; an administrator
-- or a program the user whom p_account names, into any. A tier's monthly credits are due at once, unless as many came
-- already in the user's month, which then goes on. In an unlimited tier the account may owe. Answers {"user_id", "tier",
-- "previous_tier", "account"}.
--
-- Replay:  the same tier again changes nothing.
-- Locks:   the user's credits.
-- Refuses: forbidden (somebody else's account, by no administrator), user_not_found, invalid_body (account), unknown_tier,
--          forbidden (tier), credits_owed.

create or replace function public.switch_tier(
  p_user_id    uuid,
  p_tier       text,
  p_account    text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_version int := internal.pricing_version();
  v_user_id uuid := p_user_id;
  v_actor text;
  v_new public.pricing_tiers;
  v_old public.user_credits;
  v_due_at timestamptz;
  v_answer jsonb;
begin
  if p_account is not null and lower(p_account) is distinct from p_user_id::text then
    v_actor := internal.actor(p_user_id, p_actor);
    v_user_id := internal.user_of_account(p_account);
  elsif p_user_id is null then
    perform internal.refuse('invalid_body', 'account: say whose tier this is');
  end if;
  select t.* into v_new from public.pricing_tiers as t where t.version = v_version and t.tier = p_tier;
  if v_new.tier is null then
    perform internal.refuse('unknown_tier', format('tier: there is no %s', p_tier));
  end if;

  perform internal.lock_credits(array[v_user_id]);
  select c.* into v_old from public.user_credits as c where c.user_id = v_user_id;
  v_old.tier := coalesce(v_old.tier, 'free');
  v_answer := jsonb_build_object('user_id', v_user_id, 'tier', p_tier, 'previous_tier', v_old.tier);
  if v_old.tier = p_tier then
    return v_answer || jsonb_build_object('account', internal.credit_account(v_user_id));
  end if;
  if v_user_id = p_user_id and not exists (
       select from public.pricing_tiers as t where t.version = v_version and t.tier = v_old.tier and t.position >= v_new.position) then
    perform internal.refuse('forbidden', format('tier: %s is larger than %s, and nobody''s own to take', p_tier, v_old.tier));
  end if;

  -- What ends before the switch ends on the old tier's terms.
  perform internal.expire_credit_lots(array[v_user_id]);
  if v_new.monthly_credits is not null and exists (
       select from ledger.accounts as a where a.book_id = v_user_id and a.account = 'credits' and a.balance - a.held < 0) then
    perform internal.refuse('credits_owed', format('tier: credits are owed, and nobody owes any in %s', p_tier));
  end if;

  if v_new.monthly_credits > 0 then
    -- The month that goes on ends with its lot, which may keep for another one. What is due already may be due to the old
    -- tier only, and says nothing of the month.
    select case when count(*) = 0 then v_now
                when v_old.allocation_due_at > v_now then v_old.allocation_due_at
                else greatest(v_now, coalesce(
                  max(g.expires_at - case g.source when 'rollover' then interval '1 month' else interval '0' end)
                    filter (where t.idempotency_key like 'allocation:%'),
                  v_old.last_reset + interval '1 month')) end
      into v_due_at
      from public.credit_transactions as t
      left join public.credit_grants as g on g.user_id = t.user_id and g.grant_id = t.id
     where t.user_id = v_user_id and t.transaction_type = 'allocation' and t.created_at >= v_old.last_reset
       and t.amount >= v_new.monthly_credits;
  end if;
  insert into public.user_credits as c (user_id, tier, allocation_due_at, version, updated_at)
  values (v_user_id, p_tier, v_due_at, 1, v_now)
  on conflict (user_id) do update
     set tier              = excluded.tier,
         allocation_due_at = excluded.allocation_due_at,
         version           = c.version + 1,
         updated_at        = excluded.updated_at;
  perform ledger.set_floor(v_user_id, 'credits', case when v_new.monthly_credits is null then -1000000000000000 else 0 end);

  if v_actor is not null then
    perform internal.audit(v_actor, 'credits.tier_switched', 'user', v_user_id::text, null,
      jsonb_build_object('tier', v_old.tier), jsonb_build_object('tier', p_tier), p_request_id);
  end if;
  return v_answer || jsonb_build_object('account', internal.credit_account(v_user_id));
end
$$;

-- sql/50_credits/usage_by_month.sql

-- Everybody's usage by month and model, exact at any moment: what was folded into the totals, and what was not yet.
-- What an event did not tell is the empty text.

create or replace view internal.usage_by_month
with (security_invoker = true)
as
select u.month, u.provider, u.model, u.power_level, sum(u.events)::bigint as events, sum(u.failures)::bigint as failures,
       sum(u.tokens) as tokens, sum(u.cost) as cost, sum(u.refunded) as refunded
  from (select t.month, t.provider, t.model, t.power_level, t.events, t.failures, t.tokens, t.cost, t.refunded
          from internal.usage_totals as t
        union all
        select d.month, d.provider, d.model, d.power_level, d.events, d.failures, d.tokens, d.cost, d.refunded
          from internal.usage_deltas as d) as u
 group by u.month, u.provider, u.model, u.power_level;

-- sql/50_credits/usage_discrepancies.sql

-- Where the sums of usage are not what the events and the refunds say: each user's rollup, and everybody's sums, which are
-- those of all the rollups. Both ways: a sum without events is as wrong as events without a sum.

create or replace view internal.usage_discrepancies
with (security_invoker = true)
as
select 'I3' as invariant, coalesce(r.user_id, e.user_id) as book_id,
       'usage of ' || concat_ws(' ', to_char(coalesce(r.month, e.month), 'YYYY-MM'), coalesce(r.provider, e.provider),
         coalesce(r.model, e.model), coalesce(r.power_level, e.power_level)) as subject,
       case when e.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         e.events, e.failures, e.tokens, e.cost, e.refunded) end as expected,
       case when r.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         r.events, r.failures, r.tokens, r.cost, r.refunded) end as actual
  from public.usage_rollups as r
  full join (
       select x.user_id, date_trunc('month', x.created_at at time zone 'UTC')::date as month, coalesce(x.provider, '') as provider,
              coalesce(x.model, '') as model, coalesce(x.power_level, '') as power_level, count(*) as events,
              count(*) filter (where not x.success) as failures, sum(x.tokens_used) as tokens, sum(x.cost) as cost,
              sum(coalesce(t.refunded, 0)) as refunded
         from public.usage_events as x
         left join (select y.user_id, y.refund_of, sum(y.amount) as refunded
                      from public.credit_transactions as y
                     where y.refund_of is not null
                     group by y.user_id, y.refund_of) as t on t.user_id = x.user_id and t.refund_of = x.transaction_id
        group by 1, 2, 3, 4, 5) as e
    on e.user_id = r.user_id and e.month = r.month and e.provider = r.provider and e.model = r.model and e.power_level = r.power_level
 where array[r.events, r.failures, r.tokens, r.cost, r.refunded]
       is distinct from array[e.events, e.failures, e.tokens, e.cost, e.refunded]
union all
select 'I3', null::uuid,
       'everybody''s usage of ' || concat_ws(' ', to_char(coalesce(m.month, r.month), 'YYYY-MM'), coalesce(m.provider, r.provider),
         coalesce(m.model, r.model), coalesce(m.power_level, r.power_level)),
       case when r.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         r.events, r.failures, r.tokens, r.cost, r.refunded) end,
       case when m.month is null then 'none' else format('%s events, %s failures, %s tokens, %s credits, %s refunded',
         m.events, m.failures, m.tokens, m.cost, m.refunded) end
  from internal.usage_by_month as m
  full join (
       select x.month, x.provider, x.model, x.power_level, sum(x.events) as events, sum(x.failures) as failures, sum(x.tokens) as tokens,
              sum(x.cost) as cost, sum(x.refunded) as refunded
         from public.usage_rollups as x
        group by 1, 2, 3, 4) as r
    on r.month = m.month and r.provider = m.provider and r.model = m.model and r.power_level = m.power_level
 where array[m.events, m.failures, m.tokens, m.cost, m.refunded]
       is distinct from array[r.events, r.failures, r.tokens, r.cost, r.refunded];

-- sql/50_credits/usage_event.sql

-- A use of a model by the names of what is known of it; the rest is null or nothing.

create or replace function internal.usage_event(
  p_user_id         uuid,
  p_cost            numeric default 0,
  p_tokens_used     bigint default 0,
  p_provider        text default null,
  p_model           text default null,
  p_power_level     text default null,
  p_service         text default null,
  p_success         boolean default true,
  p_metadata        jsonb default null,
  p_tier            text default null,
  p_pricing_version int default null,
  p_transaction_id  uuid default null,
  p_event_type      text default 'usage',
  p_source          text default null,
  p_payload_hash    text default null,
  p_created_at      timestamptz default null
)
returns public.usage_events
language plpgsql volatile
set search_path = ''
as $$
declare
  v_event public.usage_events;
begin
  v_event.user_id := p_user_id;
  v_event.id := internal.uuidv7();
  v_event.event_type := p_event_type;
  v_event.service := p_service;
  v_event.provider := p_provider;
  v_event.model := p_model;
  v_event.power_level := p_power_level;
  v_event.tokens_used := coalesce(p_tokens_used, 0);
  v_event.cost := p_cost;
  v_event.success := p_success;
  v_event.metadata := p_metadata;
  v_event.tier := p_tier;
  v_event.pricing_version := p_pricing_version;
  v_event.transaction_id := p_transaction_id;
  v_event.source := p_source;
  v_event.payload_hash := p_payload_hash;
  v_event.created_at := coalesce(p_created_at, internal.clock());
  return v_event;
end
$$;

-- sql/50_credits/usage_statistics.sql

-- What a user used: in all, and by model, provider, power level or month in UTC, from one moment to another, which is not
-- included; without them since ever, until now. Whole months are read from their sums, and what the two moments cut off
-- from the events themselves, so it is exact, and quick over years. `share` is the part of the cost; what an event did not
-- tell is null. What was refunded counts in the month of the usage that it gave back.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function public.usage_statistics(
  p_user_id    uuid,
  p_group_by   text default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_from timestamptz := coalesce(p_start_date, '-infinity');
  v_until timestamptz := coalesce(p_end_date, 'infinity');
  -- The whole months between.
  v_first timestamptz := date_trunc('month', v_from);
  v_end timestamptz := date_trunc('month', v_until);
  v_answer jsonb;
begin
  perform internal.act_for(array[p_user_id]);
  if p_group_by not in ('model', 'provider', 'power_level', 'month') then
    perform internal.refuse('invalid_body', 'group_by: must be model, provider, power_level or month');
  elsif v_until < v_from then
    perform internal.refuse('invalid_body', 'end_date: must not lie before start_date');
  end if;
  if v_first < v_from then
    v_first := v_first + interval '1 month';
  end if;
  if v_end <= v_first then
    v_first := v_until;
    v_end := v_until;
  end if;

  with used as materialized (
    select r.month, nullif(r.provider, '') as provider, nullif(r.model, '') as model, nullif(r.power_level, '') as power_level,
           r.events, r.failures, r.tokens, r.cost, r.refunded
      from public.usage_rollups as r
     where r.user_id = p_user_id and r.month >= v_first::date and r.month < v_end::date
    union all
    select date_trunc('month', e.created_at)::date, e.provider, e.model, e.power_level, 1, case when e.success then 0 else 1 end,
           e.tokens_used, e.cost, case when e.transaction_id is null then 0 else (
             select coalesce(sum(t.amount), 0)
               from public.credit_transactions as t
              where t.user_id = p_user_id and t.refund_of = e.transaction_id) end
      -- In their order, which leads the planner to the index by time, and away from all that the user ever used.
      from ((select x.* from public.usage_events as x
              where x.user_id = p_user_id and x.created_at >= v_from and x.created_at < v_first
              order by x.created_at desc, x.id desc)
            union all
            (select x.* from public.usage_events as x
              where x.user_id = p_user_id and x.created_at >= v_end and x.created_at < v_until
              order by x.created_at desc, x.id desc)) as e
  ), whole as materialized (
    select coalesce(sum(u.events), 0) as events, coalesce(sum(u.failures), 0) as failures, coalesce(sum(u.tokens), 0) as tokens,
           coalesce(sum(u.cost), 0) as cost, coalesce(sum(u.refunded), 0) as refunded
      from used as u
  ), named as (
    select case p_group_by when 'model' then u.model when 'provider' then u.provider when 'power_level' then u.power_level
                           else to_char(u.month, 'YYYY-MM') end as name,
           sum(u.events) as events, sum(u.failures) as failures, sum(u.tokens) as tokens, sum(u.cost) as cost, sum(u.refunded) as refunded
      from used as u
     where p_group_by is not null
     group by 1
  )
  select jsonb_build_object(
           'from', p_start_date, 'to', p_end_date,
           'total', jsonb_build_object('events', w.events, 'failures', w.failures, 'tokens', w.tokens,
                      'cost', internal.credits_json(w.cost), 'refunded', internal.credits_json(w.refunded)),
           'groups', coalesce((
             select jsonb_agg(jsonb_build_object(
                      p_group_by, n.name, 'events', n.events, 'failures', n.failures, 'tokens', n.tokens,
                      'cost', internal.credits_json(n.cost), 'refunded', internal.credits_json(n.refunded),
                      'share', round(coalesce(n.cost / nullif(w.cost, 0), 0), 4))
                      order by case when p_group_by = 'month' then n.name end, n.cost desc, n.name)
               from named as n), '[]'))
    into v_answer
    from whole as w;
  return v_answer;
end
$$;

-- sql/50_credits/user_of_account.sql

-- The user behind a user id or an e-mail address, as an administrator types it.
--
-- Refuses: user_not_found.

create or replace function internal.user_of_account(p_account text)
returns uuid
language plpgsql stable
set search_path = ''
as $$
declare
  v_user_id uuid := (internal.users_of_accounts(array[p_account]))[1];
begin
  if v_user_id is null then
    perform internal.refuse('user_not_found', format('account: nobody is known as %s', p_account));
  end if;
  return v_user_id;
end
$$;

-- sql/50_credits/users_of_accounts.sql

-- The users behind user ids and e-mail addresses, in their places; null where nobody is known so. It belongs to whoever
-- migrates, and to no role of ours, because a hosted auth.users is open to that role alone. Where it may not be read, only ids
-- are understood.

create or replace function internal.users_of_accounts(p_accounts text[])
returns uuid[]
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_id constant text := '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
  v_emails text[] := array(select distinct lower(a.account) from unnest(p_accounts) as a(account) where a.account !~* v_id);
  v_known jsonb := jsonb_build_object();
begin
  if cardinality(v_emails) > 0 then
    begin
      -- Of several with one address, the oldest.
      select coalesce(jsonb_object_agg(k.email, k.id), '{}') into v_known
        from (select distinct on (lower(u.email)) lower(u.email) as email, u.id
                from auth.users as u
               where lower(u.email) = any (v_emails)
               order by lower(u.email), u.created_at, u.id) as k;
    exception when insufficient_privilege then
      v_known := '{}';
    end;
  end if;
  return array(
    select case when a.account ~* v_id then a.account::uuid else (v_known ->> lower(a.account))::uuid end
      from unnest(p_accounts) with ordinality as a(account, "position")
     order by a."position");
end
$$;

-- sql/50_credits/validate_promotion.sql

-- Says what a promotional code is worth to this user, without taking it. Returns {valid, code, discount_type, discount_value,
-- description, expires_at}.
--
-- Replay:  it changes nothing but the count of wrong codes.
-- Locks:   nobody else shows a code from the same user, device or address meanwhile.
-- Refuses: rate_limited, coupon_not_valid, both returned as {"refusal": …}, because they are remembered; coupon_used.

create or replace function public.validate_promotion(
  p_user_id    uuid,
  p_code       text,
  p_ip_address inet default null,
  p_device_id  text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_refusal jsonb;
  v_terms record;
begin
  perform internal.act_for(array[p_user_id]);
  v_refusal := internal.throttle_coupon_codes(p_user_id, p_ip_address, p_device_id);
  if v_refusal is not null then
    return jsonb_build_object('refusal', v_refusal);
  end if;

  select t.* into v_terms from internal.promotion_terms(p_user_id, internal.promotion_code(p_code)) as t;
  if v_terms.is_used then
    perform internal.refuse('coupon_used', format('code: %s was redeemed by this user as often as allowed', v_terms.code));
  elsif v_terms.is_valid then
    return jsonb_build_object(
      'valid', true, 'code', v_terms.code, 'discount_type', v_terms.discount_type,
      'discount_value', internal.credits_json(v_terms.discount_value), 'description', v_terms.description, 'expires_at', v_terms.expires_at);
  end if;
  return internal.coupon_code_failed(p_user_id, p_ip_address, p_device_id);
end
$$;

-- sql/50_credits/waiting_discount.sql

-- The discount that a user's next purchase gets: the largest that waits, and of equals the first to end. No row: none waits.

create or replace function internal.waiting_discount(p_user_id uuid)
returns table (code text, redemption int, percent numeric)
language plpgsql stable
set search_path = ''
as $$
begin
  return query
    select r.code, r.redemption, r.discount_value::numeric
      from public.coupon_redemptions as r
     where r.user_id = p_user_id and r.discount_type = 'percentage' and r.spent_on is null and r.expires_at > internal.clock()
     order by r.discount_value desc, r.expires_at, r.code, r.redemption
     limit 1;
end
$$;

-- sql/50_credits/withdraw_prices.sql

-- Takes back a price list that is not in force yet, and that no other was made from.
--
-- Replay:  what is gone is not found.
-- Locks:   an advisory lock of all who publish or withdraw.
-- Refuses: forbidden, not_found (version), prices_in_force, invalid_body (version): there is a newer one, made from it.

create or replace function public.withdraw_prices(
  p_user_id    uuid,
  p_version    int,
  p_reason     text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_list public.pricing_versions;
begin
  perform pg_advisory_xact_lock(hashtextextended('public.pricing_versions', 0));
  select v.* into v_list from public.pricing_versions as v where v.version = p_version;
  if v_list.version is null then
    perform internal.refuse('not_found', format('version: there is no price list %s', p_version));
  end if;
  if v_list.effective_from <= internal.clock() then
    perform internal.refuse('prices_in_force', format('version: %s is in force since %s', p_version, v_list.effective_from));
  end if;
  if exists (select from public.pricing_versions as v where v.effective_from > v_list.effective_from) then
    perform internal.refuse('invalid_body', 'version: withdraw the newer one first');
  end if;

  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.reason', coalesce(p_reason, ''), true);
  delete from public.pricing_models as m where m.version = p_version;
  delete from public.pricing_providers as p where p.version = p_version;
  delete from public.pricing_power_levels as l where l.version = p_version;
  delete from public.pricing_tiers as t where t.version = p_version;
  delete from public.pricing_versions as v where v.version = p_version;
  perform internal.audit(v_actor, 'prices.withdrawn', 'pricing_versions', p_version::text, p_reason,
    jsonb_build_object('effective_from', v_list.effective_from, 'note', v_list.note), null, p_request_id);
  return jsonb_build_object('version', p_version, 'effective_from', v_list.effective_from);
end
$$;

-- sql/60_tenants/00_tables.sql

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

-- sql/60_tenants/01_allocation_tables.sql

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

-- sql/60_tenants/adjust_budget.sql

-- Makes a posting of what a database administrator writes into a lead's or a department's budget by hand: the ledger is brought
-- to the number that was written, and the audit log says who did it. A department's budget is filled from what there was of
-- old, which is how it comes here at all; a lead's is put right. What the procedures write there the ledger says already, and for
-- them it is not even looked at. The trigger's arguments: the account, where its points come from, the column that says
-- whose it is, and the column that says how much.
--
-- Locks:   the member's or the department's row, which whoever updates it holds; then the account. Procedures lock them the
--          other way round, so that one of the two may be told of a deadlock, and does it again.

create or replace function internal.adjust_budget()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_new jsonb := to_jsonb(new);
  v_tenant_id uuid := new.tenant_id;
  v_account text := format('%s:%s', tg_argv[0], v_new ->> tg_argv[2]);
  v_balance numeric(15, 2) := v_new ->> tg_argv[3];
  v_kept numeric(15, 2);
  v_delta numeric(15, 2);
  v_id uuid := internal.uuidv7();
begin
  perform ledger.lock(array[v_tenant_id], v_account);
  select coalesce(min(a.balance), 0) / 100.0 into v_kept
    from ledger.accounts as a where a.book_id = v_tenant_id and a.account = v_account;
  v_delta := v_balance - v_kept;
  if v_delta = 0 then
    return null;
  end if;

  perform from ledger.post(array[row(
    v_id, v_tenant_id, case when v_delta > 0 then tg_argv[1] else v_account end,
    case when v_delta > 0 then v_account else tg_argv[1] end, (abs(v_delta) * 100)::bigint, 'adjustment', 'audit_log', v_id,
    null)::ledger.posting]);
  perform internal.audit(
    coalesce(nullif(current_setting('tallybook.actor', true), ''), session_user), 'budget.adjustment', tg_table_name,
    v_new ->> tg_argv[2], coalesce(nullif(current_setting('tallybook.reason', true), ''), 'The balance was written by hand'),
    jsonb_build_object('balance', internal.points_text(v_kept)),
    jsonb_build_object('balance', internal.points_text(v_balance), 'tenant_id', v_tenant_id, 'transfer_id', v_id));
  return null;
end
$$;

create or replace trigger a_budget_written_by_hand_is_posted
after update of lead_distribution_balance on public.tenant_members
for each row when (
  old.lead_distribution_balance is distinct from new.lead_distribution_balance
  and current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.adjust_budget('tenant.lead', 'tenant.adjusted', 'user_id', 'lead_distribution_balance');

create or replace trigger a_budget_that_comes_along_is_posted
after insert on public.tenant_members
for each row when (new.lead_distribution_balance <> 0)
execute function internal.adjust_budget('tenant.lead', 'tenant.adjusted', 'user_id', 'lead_distribution_balance');

create or replace trigger a_budget_written_by_hand_is_posted
after update of budget_balance on public.departments
for each row when (
  old.budget_balance is distinct from new.budget_balance and current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.adjust_budget('tenant.budget', 'tenant.legacy', 'id', 'budget_balance');

create or replace trigger a_budget_that_comes_along_is_posted
after insert on public.departments
for each row when (new.budget_balance <> 0)
execute function internal.adjust_budget('tenant.budget', 'tenant.legacy', 'id', 'budget_balance');

-- sql/60_tenants/adjust_tenant_pool.sql

-- Makes a posting of what a database administrator writes into a tenant's balance by hand, as the emergency runbook has it:
-- the ledger is brought to the number that was written, and the platform's trail says who did it. What the procedures write
-- there is what the ledger says already, and needs nothing: for them it is not even looked at.
--
-- Locks:   the tenant's row, which whoever updates it holds; then the pool's account, where nobody has it. Procedures lock
--          them the other way round: who has the account needs the row next, and to wait for them would be for ever.
--          public.adjust_tenant_pool_to locks as they do, and waits its turn.
-- Refuses: as the database does, with 55P03, and says what to do instead.

create or replace function internal.adjust_tenant_pool()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_pool numeric(15, 2);
  v_delta numeric(15, 2);
  v_id uuid := internal.uuidv7();
begin
  begin
    select a.balance / 100.0 into v_pool
      from ledger.accounts as a where a.book_id = new.id and a.account = 'tenant.pool' for update nowait;
    -- A pool that was never filled has no account; who fills it first holds this, as internal.lock_pools does.
    if not found then
      if not pg_try_advisory_xact_lock(hashtextextended(format('tallybook.unfilled_pool %s', new.id), 0)) then
        raise lock_not_available;
      end if;
      select a.balance / 100.0 into v_pool
        from ledger.accounts as a where a.book_id = new.id and a.account = 'tenant.pool' for update nowait;
    end if;
  exception when lock_not_available then
    raise lock_not_available using
      message = format('The pool of tenant %s is in use: nothing was written', new.id),
      hint = format('Do it again; or have it done in its turn: select public.adjust_tenant_pool_to(null, %L, %s, ''why'')',
                    new.id, new.points_allocation_balance);
  end;
  v_delta := new.points_allocation_balance - coalesce(v_pool, 0);
  if v_delta = 0 then
    return null;
  end if;

  perform from ledger.post(array[row(
    v_id, new.id, case when v_delta > 0 then 'tenant.adjusted' else 'tenant.pool' end,
    case when v_delta > 0 then 'tenant.pool' else 'tenant.adjusted' end, (abs(v_delta) * 100)::bigint, 'adjustment',
    'platform_billing_log', v_id, null)::ledger.posting]);
  insert into public.platform_billing_logs (tenant_id, id, actor, amount, currency, transaction_type, balance_after, reference_note)
  values (new.id, v_id, session_user, v_delta, new.currency, 'ADJUSTMENT', new.points_allocation_balance,
          coalesce(nullif(current_setting('tallybook.reason', true), ''), 'The balance was written by hand'));
  return null;
end
$$;

create or replace trigger a_balance_written_by_hand_is_posted
after update of points_allocation_balance on public.tenants
for each row when (
  old.points_allocation_balance is distinct from new.points_allocation_balance
  and current_user not in ('tallybook_procedures', 'tallybook_upkeep'))
execute function internal.adjust_tenant_pool();

-- A tenant that comes with a balance had it from the platform.
create or replace trigger a_balance_that_comes_along_is_posted
after insert on public.tenants
for each row when (new.points_allocation_balance <> 0)
execute function internal.adjust_tenant_pool();

-- sql/60_tenants/adjust_tenant_pool_to.sql

-- Brings a tenant's pool to a balance by an adjustment, with a reason: the polite form of writing the balance by hand.
-- Returns {success, tenant_id, adjusted_by, new_allocation_balance, platform_log_id, reason}; adjusted_by is signed, and
-- platform_log_id null where it was that balance already and there is no key under which to remember that.
--
-- Replay:  under a key of the tenant's the same adjustment is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, tenant_not_found, nonce_reused.

create or replace function public.adjust_tenant_pool_to(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_balance         numeric,
  p_reason          text,
  p_idempotency_key text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_refusal jsonb := internal.points_refusal(p_balance, 'balance');
  v_hash text := internal.request_hash(jsonb_build_object('adjust_to', trim_scale(p_balance), 'reason', p_reason));
  v_pool numeric;
  v_bill public.platform_billing_logs;
  v_id uuid;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif p_balance < 0 then
    perform internal.refuse('invalid_amount', 'balance: must not be below zero');
  elsif p_balance is distinct from 0 and v_refusal is not null then
    perform internal.refuse(v_refusal ->> 'code', v_refusal ->> 'detail');
  end if;

  v_pool := internal.locked_pool(p_tenant_id);
  v_bill := internal.billed_before(p_tenant_id, p_idempotency_key, v_hash);
  if v_bill.id is null and (p_balance <> v_pool or p_idempotency_key is not null) then
    v_id := internal.uuidv7();
    perform internal.bill_tenants(array[row(
      p_tenant_id, v_id, p_balance - v_pool, 'ADJUSTMENT', null, p_user_id, v_actor, p_reason, p_idempotency_key, v_hash,
      p_request_id)::internal.tenant_bill]);
    select l.* into v_bill from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.id = v_id;
  end if;

  return jsonb_build_object(
      'success', true, 'tenant_id', p_tenant_id, 'adjusted_by', internal.points_text(coalesce(v_bill.amount, 0)),
      'new_allocation_balance', internal.points_text(coalesce(v_bill.balance_after, v_pool)), 'platform_log_id', v_bill.id,
      'reason', p_reason)
    || case when v_id is null and v_bill.id is not null then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/alert_tenant.sql

-- Writes down that a pool has just fallen below what its tenant set, or to nothing: once a crossing, by whatever way it
-- fell.

create or replace function internal.alert_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.tenant_alerts as x (tenant_id, kind, threshold, balance)
  select new.id, a.kind, a.threshold, new.points_allocation_balance
    from (values ('low_balance', new.low_balance_threshold,
                  old.points_allocation_balance >= new.low_balance_threshold
                    and new.points_allocation_balance < new.low_balance_threshold),
                 ('empty', 0, old.points_allocation_balance > 0 and new.points_allocation_balance = 0)) as a(kind, threshold, is_crossed)
   where a.is_crossed;
  return null;
end
$$;

create or replace trigger a_pool_that_falls_low_is_told
after update of points_allocation_balance on public.tenants
for each row when (
  new.points_allocation_balance < old.points_allocation_balance
  and (old.points_allocation_balance >= new.low_balance_threshold and new.points_allocation_balance < new.low_balance_threshold
       or new.points_allocation_balance = 0))
execute function internal.alert_tenant();

-- sql/60_tenants/allocate_to_tenant.sql

-- Gives a tenant's pool points of the platform, by an administrator's or a program's decision. Returns {success, tenant_id,
-- amount_allocated, new_allocation_balance, currency, allocation_log_id, platform_log_id}.
--
-- Replay:  under a key of the tenant's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   those of internal.allocate_to_tenants.
-- Refuses: forbidden, invalid_amount, invalid_body, tenant_not_found, nonce_reused, rate_limited.

create or replace function public.allocate_to_tenant(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_amount          numeric,
  p_reference_note  text default null,
  p_currency        text default null,
  p_idempotency_key text default null,
  p_ip_address      inet default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
begin
  return (
    select internal.single(o)
      from internal.allocate_to_tenants(
             p_user_id, jsonb_build_array(jsonb_build_object(
               'tenant_id', p_tenant_id, 'amount', p_amount, 'currency', p_currency, 'idempotency_key', p_idempotency_key)),
             p_reference_note, p_ip_address, 'CREDIT_INJECTION', v_actor, p_request_id) as o);
end
$$;

-- sql/60_tenants/allocate_to_tenants.sql

-- Gives points of the platform to tenants' pools, each allocation by itself: {tenant_id, amount, currency, reference_note,
-- idempotency_key}. What it answers or refuses stands in the allocation's place. An allocation is a lot of the pool, which
-- ends as the tenant's policy says.
--
-- Replay:  under a key of the tenant's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools; then internal.allocations_limit_detail's; then the cache rows.
-- Refuses: rate_limited, the whole; in place: invalid_body, invalid_amount, tenant_not_found, nonce_reused.

create or replace function internal.allocate_to_tenants(
  p_user_id          uuid,
  p_allocations      jsonb,
  p_reference_note   text,
  p_ip_address       inet,
  p_transaction_type text,
  p_actor            text,
  p_request_id       text
)
returns setof internal.outcome
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'  -- a day has 24 hours, in whatever zone somebody looks
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_entries jsonb;  -- the allocations as they are understood, each with its refusal
  v_new int[];      -- those that are neither refused nor replays
  v_limit text;
begin
  select jsonb_agg(to_jsonb(p) || jsonb_build_object(
           'id', internal.uuidv7(), 'bill_id', internal.uuidv7(),
           'hash', internal.request_hash(jsonb_build_object(
             'allocate', trim_scale(p.amount), 'currency', p.currency, 'reference_note', p.reference_note)),
           'refusal', case
             when jsonb_typeof(p.entry) <> 'object' then internal.refusal('invalid_body', 'allocations: each must be an object')
             when p.tenant_id is null then internal.refusal('invalid_body', 'tenant_id: must be an id')
             when length(p.idempotency_key) not between 1 and 200 then
               internal.refusal('invalid_body', 'idempotency_key: must have 1 to 200 characters')
             when t.id is null or not t.is_active and k.id is null then internal.refusal('tenant_not_found')
             when p.currency <> t.currency and k.id is null then internal.refusal('invalid_body', format('currency: the tenant''s is %s', t.currency))
             else internal.points_refusal(p.amount) end) order by p."position")
    into v_entries
    from (
      select a."position", a.entry,
             case when a.entry ->> 'tenant_id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                  then (a.entry ->> 'tenant_id')::uuid end as tenant_id,
             case when jsonb_typeof(a.entry -> 'amount') = 'number' or a.entry ->> 'amount' ~ '^-?\d{1,18}(\.\d{1,18})?$'
                  then (a.entry ->> 'amount')::numeric end as amount,
             a.entry ->> 'currency' as currency, coalesce(a.entry ->> 'reference_note', p_reference_note) as reference_note,
             a.entry ->> 'idempotency_key' as idempotency_key
        from jsonb_array_elements(p_allocations) with ordinality as a(entry, "position")) as p
    left join lateral (
         select x.id, x.currency, x.is_active from public.tenants as x where x.id = p.tenant_id limit 1) as t on true
    -- What was allocated is answered as it was, whatever became of the tenant.
    left join lateral (
         select x.id from public.allocation_logs as x
          where x.tenant_id = p.tenant_id and x.idempotency_key = p.idempotency_key limit 1) as k on true;

  perform from internal.lock_pools(array(
    select distinct e.tenant_id from jsonb_to_recordset(v_entries) as e(tenant_id uuid, refusal jsonb)
     where e.refusal is null order by 1));

  -- Of those under one key in this call, the first counts. No pool ever gets more than its column holds.
  select array_agg(n."position" order by n."position") filter (where n.is_first and not n.is_too_much),
         jsonb_agg(to_jsonb(n) || jsonb_build_object('refusal', case
           when n.is_first and n.is_too_much then internal.refusal('invalid_amount', 'amount: no pool holds as much')
           else n.refusal end) order by n."position")
    into v_new, v_entries
    from (
      select e.*, e.refusal is null and l.id is null and row_number() over (
               partition by e.refusal is null, e.tenant_id, e.idempotency_key is null, coalesce(e.idempotency_key, e."position"::text)
               order by e."position") = 1 as is_first,
             (coalesce(a.balance, 0) / 100.0 > 9999999999999.99 - sum(e.amount) filter (where e.refusal is null and l.id is null) over (
               partition by e.tenant_id order by e."position")) is true as is_too_much
        from jsonb_to_recordset(v_entries) as e(
               "position" int, tenant_id uuid, id uuid, bill_id uuid, amount numeric, reference_note text, idempotency_key text,
               hash text, refusal jsonb)
        -- A clawback or an adjustment may have come under the key as well.
        left join lateral (
             select x.id from public.platform_billing_logs as x
              where x.tenant_id = e.tenant_id and x.idempotency_key = e.idempotency_key limit 1) as l on true
        left join lateral (
             select x.balance from ledger.accounts as x where x.book_id = e.tenant_id and x.account = 'tenant.pool' limit 1) as a on true
      ) as n;

  if v_new is not null then
    v_limit := internal.allocations_limit_detail(p_user_id, p_ip_address);
    if v_limit is not null then
      perform internal.refuse('rate_limited', v_limit);
    end if;

    insert into public.allocation_logs as l (
           tenant_id, id, allocated_by, actor, amount, currency, reference_note, expires_at, idempotency_key, request_hash,
           request_id, is_request, ip_address, created_at, updated_at)
    select e.tenant_id, e.id, p_user_id, p_actor, e.amount, t.currency, e.reference_note,
           v_now + case t.expiry_policy
                     when '90_days' then interval '90 days'
                     when '180_days' then interval '180 days'
                     when '1_year' then interval '1 year' end,
           e.idempotency_key, e.hash, p_request_id, e."position" = v_new[1], p_ip_address, v_now, v_now
      from jsonb_to_recordset(v_entries) as e(
             "position" int, tenant_id uuid, id uuid, amount numeric, reference_note text, idempotency_key text, hash text)
     cross join lateral (select x.currency, x.expiry_policy from public.tenants as x where x.id = e.tenant_id limit 1) as t
     where e."position" = any (v_new);

    perform internal.bill_tenants(array(
      select row(e.tenant_id, e.bill_id, e.amount, p_transaction_type, e.id, p_user_id, p_actor, e.reference_note, e.idempotency_key,
                 e.hash, p_request_id)::internal.tenant_bill
        from jsonb_to_recordset(v_entries) as e(
               "position" int, tenant_id uuid, id uuid, bill_id uuid, amount numeric, reference_note text, idempotency_key text, hash text)
       where e."position" = any (v_new)
       order by e."position"));

    update public.tenants as t
       set allocations_due_at = least(t.allocations_due_at, d.expires_at)
      from (select l.tenant_id, min(l.expires_at) as expires_at
              from jsonb_to_recordset(v_entries) as e("position" int, tenant_id uuid, id uuid)
             cross join lateral (
                   select x.tenant_id, x.expires_at from public.allocation_logs as x
                    where x.tenant_id = e.tenant_id and x.id = e.id and x.expires_at is not null limit 1) as l
             where e."position" = any (v_new)
             group by l.tenant_id) as d
     where t.id = d.tenant_id;

    insert into public.tenant_alerts as x (tenant_id, kind, threshold, balance, created_at)
    select e.tenant_id, 'large_allocation', g.large_allocation_above, b.balance_after, v_now
      from jsonb_to_recordset(v_entries) as e("position" int, tenant_id uuid, bill_id uuid, amount numeric)
      join public.allocation_limits as g on e.amount > g.large_allocation_above
     cross join lateral (
           select x.balance_after from public.platform_billing_logs as x where x.tenant_id = e.tenant_id and x.id = e.bill_id limit 1) as b
     where e."position" = any (v_new)
     order by e."position";
  end if;

  return query
    select e."position",
           case when e.refusal is null and l.request_hash = e.hash then
             jsonb_build_object(
               'success', true, 'tenant_id', e.tenant_id, 'amount_allocated', internal.points_text(l.amount),
               'new_allocation_balance', internal.points_text(b.balance_after), 'currency', l.currency, 'allocation_log_id', l.id,
               'platform_log_id', b.id) || case when l.id <> e.id then '{"replayed": true}' else '{}' end::jsonb end,
           case when e.refusal is not null then e.refusal
                when l.request_hash is distinct from e.hash
                  then internal.refusal('nonce_reused', 'idempotency_key: it came with another request before') end
      from jsonb_to_recordset(v_entries) as e(
             "position" int, tenant_id uuid, id uuid, idempotency_key text, hash text, refusal jsonb)
      left join lateral (
           select x.* from public.allocation_logs as x
            where x.tenant_id = e.tenant_id
              and x.id = case when e."position" = any (v_new) then e.id else (
                    select y.id from public.allocation_logs as y
                     where y.tenant_id = e.tenant_id and y.idempotency_key = e.idempotency_key) end
            limit 1) as l on true
      left join lateral (
           select x.id, x.balance_after from public.platform_billing_logs as x
            where x.tenant_id = l.tenant_id and x.allocation_id = l.id and x.transaction_type in ('CREDIT_INJECTION', 'REFILL')
            limit 1) as b on true
     order by e."position";
end
$$;

-- sql/60_tenants/allocation_logs_page.sql

-- A page of what was allocated to tenants, the newest first unless another order is asked for.
-- A manager sees their own tenant's, an administrator and a program one tenant's or everybody's.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, tenant_not_found, invalid_body.

create or replace function public.allocation_logs_page(
  p_user_id    uuid,
  p_tenant_id  uuid default null,
  p_status     text default null,
  p_search     text default null,
  p_amount_min numeric default null,
  p_amount_max numeric default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null,
  p_sort       text default 'created_at',
  p_direction  text default 'desc',
  p_page       int default null,
  p_limit      int default 25,
  p_cursor     text default null,
  p_with_total boolean default false
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := internal.managed_tenant(p_user_id, p_tenant_id);
begin
  if p_status not in ('COMPLETED', 'REVOKED', 'EXPIRED') then
    perform internal.refuse('invalid_body', 'status: must be COMPLETED, REVOKED or EXPIRED');
  end if;
  return internal.tenant_log_page(
    'allocation_logs', v_tenant_id, p_status, null, null, p_search, p_amount_min, p_amount_max, p_start_date, p_end_date,
    p_sort, p_direction, p_page, p_limit, p_cursor, p_with_total);
end
$$;

-- sql/60_tenants/allocation_metrics.sql

-- What a scrape of Prometheus is told of tenants, as the database has it, so that every process says the same: one row a
-- tenant for the first p_tenants by their ids, everybody after them as 'others', and the p_wallets fullest wallets.
-- Counts and sums of allocations only grow: no allocation is deleted, and what is reversed counts as allocated.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function public.allocation_metrics(p_tenants int default 1000, p_wallets int default 0)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set jit = off
as $$
declare
  v_answer jsonb;
begin
  if p_tenants not between 0 and 10000 then
    perform internal.refuse('invalid_body', 'tenants: must be 0 to 10000');
  elsif p_wallets not between 0 and 10000 then
    perform internal.refuse('invalid_body', 'wallets: must be 0 to 10000');
  end if;

  with tenant as (
    select t.id, t.points_allocation_balance as balance, row_number() over (order by t.id) <= p_tenants as has_label from public.tenants as t
  ), allocated as (
    select a.tenant_id, count(*) as allocations, sum(a.amount) as amount from public.allocation_logs as a group by a.tenant_id
  ), walleted as (
    select w.tenant_id, count(*) as wallets, sum(w.balance) as balance from public.wallets as w group by w.tenant_id
  ), labelled as (
    select case when t.has_label then t.id::text else 'others' end as tenant_id, coalesce(sum(a.allocations), 0) as allocations,
           coalesce(sum(a.amount), 0) as amount, sum(t.balance) as balance, coalesce(sum(w.wallets), 0) as wallets,
           coalesce(sum(w.balance), 0) as in_wallets
      from tenant as t
      left join allocated as a on a.tenant_id = t.id
      left join walleted as w on w.tenant_id = t.id
     group by 1
  )
  select jsonb_build_object('tenants', coalesce(jsonb_agg(jsonb_build_object(
           'tenant_id', l.tenant_id, 'allocations', l.allocations, 'amount', l.amount, 'balance', l.balance,
           'wallets', l.wallets, 'in_wallets', l.in_wallets) order by l.tenant_id), '[]'))
    into v_answer
    from labelled as l;

  return v_answer || jsonb_build_object('wallets', case when p_wallets = 0 then '[]'::jsonb else (
    select coalesce(jsonb_agg(jsonb_build_object('tenant_id', f.tenant_id, 'user_id', f.user_id, 'balance', f.balance)), '[]')
      from (select w.tenant_id, w.user_id, w.balance from public.wallets as w
             order by w.balance desc, w.tenant_id, w.user_id limit p_wallets) as f) end);
end
$$;

-- sql/60_tenants/allocations_limit_detail.sql

-- Says that an administrator, or the address they ask from, has allocated as often in the last hour as they may, and when
-- there is room again: '<policy>: <quota> in <window> s; again in <seconds> s'; null when they may. A bulk counts once.
-- Until the transaction ends nobody else allocates for the same administrator or from the same address. Of an IPv6 address
-- the network counts.
--
-- Locks:   an advisory lock for each of the two, in order.

create or replace function internal.allocations_limit_detail(p_user_id uuid, p_ip_address inet)
returns text
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_max int;
  v_network cidr := network(set_masklen(p_ip_address, case family(p_ip_address) when 6 then 64 else 32 end));
  v_filled_at timestamptz;  -- when the one was made that has to grow older than the hour
begin
  select l.allocations_per_hour_max into v_max from public.allocation_limits as l;
  if v_max is null then
    return null;
  end if;
  perform pg_advisory_xact_lock(k.key)
     from (select hashtextextended('tallybook.allocations ' || w.subject, 0) as key
             from (values (p_user_id::text), (v_network::text)) as w(subject)
            where w.subject is not null
            order by 1) as k;

  select max(f.created_at) into v_filled_at
    from ((select l.created_at from public.allocation_logs as l
            where l.allocated_by = p_user_id and l.is_request and l.created_at > v_now - interval '1 hour'
            order by l.created_at desc offset v_max - 1 limit 1)
          union all
          (select l.created_at from public.allocation_logs as l
            where l.ip_network = v_network and l.is_request and l.created_at > v_now - interval '1 hour'
            order by l.created_at desc offset v_max - 1 limit 1)) as f;
  if v_filled_at is null then
    return null;
  end if;
  return format('allocations_per_hour: %s in 3600 s; again in %s s', v_max,
                greatest(1, ceil(3600 - extract(epoch from v_now - v_filled_at))::int));
end
$$;

-- sql/60_tenants/ask_recognitions.sql

-- Reads requests to recognize somebody: who gives in which tenant, to whom, how much each, and which accounts may pay for it.
-- From now on the procedure acts for those tenants. Nothing is locked yet: what a lock decides, as what the accounts hold and
-- whether the key is known, is for internal.fund_recognitions.
--
-- A program, or an administrator who is no member, gives in the system's name, and names the tenant.
--
-- Refuses: forbidden, invalid_body, tenant_not_found, invalid_amount, self_recognition, recipient_not_found, peer_to_peer_off;
--          each as the verdict on one request.

create or replace function internal.ask_recognitions(p_requests internal.recognition_request[])
returns internal.recognition_ask[]
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  c_points_max constant numeric := 9999999999999.99;
  v_users uuid[] := array(select r.user_id from unnest(p_requests) as r where r.user_id is not null);
  v_administrators uuid[] := array(
    select s.id from public.system_admins as s
     where s.is_active and s.id = any (array(select r.user_id from unnest(p_requests) as r where r.award)));
  v_members public.tenant_members[] := array[]::public.tenant_members[];  -- who of them is a member, in whatever tenant
  v_who uuid[] := array[]::uuid[];  -- and who that is, in the same places
  v_tenants public.tenants[];  -- the active ones of theirs, and of those that are named
  v_tenant_ids uuid[];
  v_departments text[] := array[]::text[];  -- tenant/department, where it has a cap
  v_caps numeric[];
  v_request internal.recognition_request;
  v_member public.tenant_members;
  v_giver public.tenant_members;  -- null: the system
  v_tenant public.tenants;
  v_ask internal.recognition_ask;
  v_asks internal.recognition_ask[];
  v_at int;
  v_heads int;
  v_names_twice boolean;
  v_tenants_of int;
  v_split text;
  v_tier_points numeric;
  v_points numeric;  -- each one's, or what all share
begin
  if cardinality(p_requests) > cardinality(v_users) + 1 then
    raise exception 'a batch holds at most one request per book';
  end if;
  if cardinality(v_users) > 0 then
    perform internal.act_for(v_users);
    select coalesce(array_agg(m), '{}'), coalesce(array_agg(m.user_id), '{}')
      into v_members, v_who
      from public.tenant_members as m
     where m.user_id = any (v_users) and m.is_active;
  end if;
  v_tenant_ids := array(
    select m.tenant_id from unnest(v_members) as m
     union
    select r.tenant_id
      from unnest(p_requests) as r
     where r.tenant_id is not null and (r.user_id is null or r.user_id = any (v_administrators)));
  if cardinality(v_tenant_ids) > 0 then
    perform internal.act_for(v_tenant_ids);
  end if;
  select coalesce(array_agg(t), '{}'), coalesce(array_agg(t.id), '{}')
    into v_tenants, v_tenant_ids
    from public.tenants as t
   where t.id = any (v_tenant_ids) and t.is_active;
  if exists (select from unnest(v_members) as m where m.department_id is not null) then
    select coalesce(array_agg(d.tenant_id || '/' || d.id), '{}'), array_agg(d.monthly_cap)
      into v_departments, v_caps
      from (select distinct m.tenant_id, m.department_id from unnest(v_members) as m) as m
     cross join lateral (
           select x.* from public.departments as x where x.tenant_id = m.tenant_id and x.id = m.department_id limit 1) as d
     where d.monthly_cap is not null;
  end if;

  for v_place in 1 .. cardinality(p_requests) loop
    v_request := p_requests[v_place];
    v_giver := null;
    v_tenants_of := 0;
    foreach v_at in array coalesce(array_positions(v_who, v_request.user_id), '{}') loop
      v_member := v_members[v_at];
      -- An administrator who works there awards as administrator.
      if v_member.tenant_id = any (v_tenant_ids) and coalesce(v_member.tenant_id = v_request.tenant_id, true)
         and not (v_member.role = 'employee' and v_request.tenant_id is not null and v_request.user_id = any (v_administrators)) then
        v_tenants_of := v_tenants_of + 1;
        v_giver := v_member;
      end if;
    end loop;

    v_heads := coalesce(cardinality(v_request.recipients), 0);
    -- Asked where there are several only: a condition that reads rows costs as much as all others together.
    v_names_twice := false;
    if v_heads > 1 then
      v_names_twice := v_heads > (select count(distinct u.user_id) from unnest(v_request.recipients) as u(user_id));
    end if;
    v_split := coalesce(v_request.split, 'flat');
    v_ask := row(
      v_place, null, coalesce(v_giver.tenant_id, v_request.tenant_id), v_request.user_id, v_giver.user_id, v_giver.department_id, null,
      v_request.recipients, null, null, null, null, v_request.message, coalesce(v_request.recognition_type, 'standard'),
      v_request.award_tier, coalesce(v_request.visibility, 'public'), null, null, null, v_request.idempotency_key, null,
      v_request.request_id, null, null)::internal.recognition_ask;
    if v_ask.tenant_id is distinct from v_tenant.id then
      v_tenant := v_tenants[array_position(v_tenant_ids, v_ask.tenant_id)];
    end if;
    v_tier_points := null;
    if v_request.award_tier is not null and jsonb_typeof(v_tenant.award_tiers -> v_request.award_tier) = 'number' then
      v_tier_points := (v_tenant.award_tiers ->> v_request.award_tier)::numeric;
    end if;
    v_points := coalesce(v_request.points, v_tier_points, 0);
    if v_request.idempotency_key is not null then
      v_ask.request_hash := encode(sha256(convert_to(row(
        v_request.recipients, trim_scale(v_request.points), v_request.message, v_ask.recognition_type, v_request.award_tier, v_split,
        v_ask.visibility, coalesce(v_request.award, false))::text, 'UTF8')), 'hex');
    end if;

    if v_tenants_of = 0 and v_request.user_id is not null and v_request.user_id <> all (v_administrators) then
      v_ask.verdict := 'forbidden';
      v_ask.detail := 'This is open to the members of a tenant only.';
      v_ask.tenant_id := null;
    elsif v_tenants_of > 1 or v_tenants_of = 0 and v_request.tenant_id is null then
      -- Who is in several tenants must name one, unless only one of them is active.
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'tenant_id: must be named';
      v_ask.tenant_id := null;
    elsif v_tenant.id is null then
      v_ask.verdict := 'tenant_not_found';
    elsif v_request.message is null or v_request.message !~ '\S' or length(v_request.message) > 2000 then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'message: must say something, in at most 2000 characters';
    elsif length(v_request.idempotency_key) > 200 then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'idempotency_key: must have at most 200 characters';
    elsif v_ask.recognition_type not in ('standard', 'individual_award', 'group_award', 'ecard') then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'recognition_type: must be standard, individual_award, group_award or ecard';
    elsif v_ask.visibility not in ('public', 'private', 'department') then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'visibility: must be public, private or department';
    elsif v_split not in ('flat', 'equal') then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'split: must be flat or equal';
    elsif v_request.award_tier is not null and v_tier_points is null then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'award_tier: there is no such tier';
    elsif v_heads not between 1 and 200 or array_position(v_request.recipients, null) is not null or v_names_twice then
      v_ask.verdict := 'invalid_body';
      v_ask.detail := 'recipients: must be 1 to 200, each named once';
    elsif v_request.points <> v_tier_points then
      v_ask.verdict := 'invalid_amount';
      v_ask.detail := 'points: the award tier says how many';
    elsif v_split = 'equal' and v_points > 0 and v_points < v_heads / 100.0 then
      v_ask.verdict := 'invalid_amount';
      v_ask.detail := 'points: there is not a hundredth for each';
    elsif not (v_points between 0 and c_points_max) or scale(trim_scale(v_points)) > 2 or v_request.award and v_points = 0
          or v_split = 'flat' and v_points * v_heads > c_points_max then
      v_ask.verdict := 'invalid_amount';
      v_ask.detail := 'points: must be at most 9999999999999.99 in all, not below 0, with at most two decimal places';
    elsif v_request.award and v_giver.role = 'employee' then
      v_ask.verdict := 'forbidden';
      v_ask.detail := 'This is open to managers and leads only.';
    elsif v_request.user_id = any (v_request.recipients) then
      v_ask.verdict := 'self_recognition';
    else
      if v_giver.role = 'employee' and v_points > 0 and not v_tenant.peer_to_peer_enabled then
        v_ask.verdict := 'peer_to_peer_off';
      end if;
      if v_split = 'flat' then
        v_ask.shares := array_fill(v_points, array[v_heads]);
        v_ask.points := v_points * v_heads;
      else
        -- What does not divide goes to the first of them, a hundredth each.
        v_ask.shares := array(
          select (trunc(v_points * 100 / v_heads) + case when g.place <= v_points * 100 % v_heads then 1 else 0 end) / 100
            from generate_series(1, v_heads) as g(place)
           order by g.place);
        v_ask.points := v_points;
      end if;
      if v_giver.user_id is null then
        v_ask.sources := array['tenant.pool'];
      elsif v_giver.role = 'employee' then
        v_ask.sources := array['tenant.wallet:' || v_giver.user_id];
      else
        v_ask.sources := case when v_giver.lead_distribution_balance > 0 then array['tenant.lead:' || v_giver.user_id] else '{}' end
          || array['tenant.pool']
          || case when v_tenant.allocation_mode <> 'legacy_fallback' then '{}'
                  when v_giver.department_id is null then array['tenant.wallet:' || v_giver.user_id]
                  else array['tenant.budget:' || v_giver.department_id, 'tenant.wallet:' || v_giver.user_id] end;
      end if;
      v_ask.monthly_cap := v_caps[array_position(v_departments, v_ask.tenant_id || '/' || v_ask.department_id)];
    end if;
    v_asks[v_place] := v_ask;
  end loop;

  -- All are looked up at once, and last, since nearly nobody names a stranger.
  for v_at in
    select distinct a.position
      from unnest(v_asks) as a
     cross join unnest(a.recipients) as r(user_id)
      left join lateral (
           select x.user_id from public.tenant_members as x
            where x.tenant_id = a.tenant_id and x.user_id = r.user_id and x.is_active limit 1) as m on true
     where (a.verdict is null or a.verdict = 'peer_to_peer_off') and m.user_id is null
  loop
    v_asks[v_at].verdict := 'recipient_not_found';
  end loop;
  return v_asks;
end
$$;

-- sql/60_tenants/award_to_user.sql

-- Awards points to one member: internal.award_to_user_batch for one request. Without p_user_id it is the system that awards.
-- Returns {success, amount_awarded, recipient_new_wallet_balance, tenant_remaining_pool, ledger_entry_id, recognition_id, funded_by}.
--
-- Replay, Locks, Refuses: as internal.give_recognition_batch.

create or replace function public.award_to_user(
  p_user_id             uuid,
  p_to_user_id          uuid,
  p_amount              numeric,
  p_recognition_message text,
  p_tenant_id           uuid default null,
  p_idempotency_key     text default null,
  p_request_id          text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.award_to_user_batch(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
           'user_id', p_user_id, 'to_user_id', p_to_user_id, 'amount', p_amount, 'recognition_message', p_recognition_message,
           'tenant_id', p_tenant_id, 'idempotency_key', p_idempotency_key, 'request_id', p_request_id)))) as o;
  return internal.single(v_outcome);
end
$$;

-- sql/60_tenants/award_to_user_batch.sql

-- Awards points to members: internal.recognize for those who give their company's points, with one recipient each.
-- A program, or an administrator of the platform, awards in the system's name.
--
-- Replay, Locks, Refuses: as internal.recognize.

create or replace function internal.award_to_user_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return query
  select g.position,
         case when g.replayed then o.answer || '{"replayed": true}' when g.refusal is null then o.answer end,
         -- What is at fault is called here as it came.
         g.refusal || jsonb_build_object('detail', case split_part(g.refusal ->> 'detail', ': ', 1)
           when 'points' then 'amount: must be above 0, at most 9999999999999.99, with at most two decimal places'
           when 'message' then 'recognition_message: must say something, in at most 2000 characters'
           when 'recipients' then 'to_user_id: must be named'
           else g.refusal ->> 'detail' end)
    from internal.recognize(array(
           select row(r.user_id, r.tenant_id, array[r.to_user_id], coalesce(r.amount, 0), r.recognition_message, 'individual_award',
                      null, null, null, true, r.idempotency_key, r.request_id)::internal.recognition_request
             from jsonb_to_recordset(p_requests) as r(
                    user_id uuid, tenant_id uuid, to_user_id uuid, amount numeric, recognition_message text, idempotency_key text,
                    request_id text))) as g
   cross join lateral (
         select jsonb_build_object('success', true, 'amount_awarded', g.points,
                  'recipient_new_wallet_balance', g.recipients #> '{0,new_wallet_balance}', 'tenant_remaining_pool', g.pool,
                  'ledger_entry_id', g.recipients #> '{0,ledger_entry_id}', 'recognition_id', g.id, 'funded_by', g.funded_by) as answer) as o;
end
$$;

-- sql/60_tenants/bill_tenants.sql

-- Does to pools what the platform decided, and writes it into the platform's trail; what an administrator decided into the
-- audit log too. The pools are locked, and what is taken is there.
--
-- Locks:   those of internal.move_tenant_points.

create or replace function internal.bill_tenants(p_bills internal.tenant_bill[])
returns void
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
begin
  perform from internal.move_tenant_points(array(
            select internal.tenant_move(
                     b.tenant_id, case when b.amount > 0 then c.account else 'tenant.pool' end,
                     case when b.amount > 0 then 'tenant.pool' else c.account end, abs(b.amount), lower(b.transaction_type),
                     case when b.allocation_id is null then 'platform_billing_log' else 'allocation_log' end,
                     coalesce(b.allocation_id, b.id), b.id, p_created_at => v_now)
              from unnest(p_bills) with ordinality as b
             cross join lateral (
                   select case b.transaction_type
                            when 'ADJUSTMENT' then 'tenant.adjusted'
                            when 'EXPIRY' then 'tenant.expired'
                            else 'tenant.platform' end as account) as c
             where b.amount <> 0  -- an adjustment that found what it was to bring is a row, and moves nothing
             order by b.ordinality)) as o
    where o.outcome <> 'posted';
  if found then
    raise exception 'a pool changed that was locked';
  end if;

  -- What stood in the pool after each: what stands there now, less what came later in the set.
  insert into public.platform_billing_logs as l (
         tenant_id, id, admin_id, actor, amount, currency, transaction_type, balance_after, reference_note, allocation_id,
         idempotency_key, request_hash, request_id, created_at)
  select b.tenant_id, b.id, b.admin_id, b.actor, b.amount, t.currency, b.transaction_type,
         t.points_allocation_balance - coalesce(sum(b.amount) over (
           partition by b.tenant_id order by b.ordinality desc rows between unbounded preceding and 1 preceding), 0),
         b.reference_note, b.allocation_id, b.idempotency_key, b.request_hash, b.request_id, v_now
    from unnest(p_bills) with ordinality as b
   cross join lateral (select x.currency, x.points_allocation_balance from public.tenants as x where x.id = b.tenant_id limit 1) as t;

  perform internal.audit(
            l.actor, 'tenant.' || lower(l.transaction_type), 'tenant', l.tenant_id::text, l.reference_note,
            jsonb_build_object('balance', internal.points_text(l.balance_after - l.amount)),
            jsonb_build_object('balance', internal.points_text(l.balance_after), 'amount', internal.points_text(l.amount),
              'platform_log_id', l.id), l.request_id)
     from unnest(p_bills) as b
    cross join lateral (select x.* from public.platform_billing_logs as x where x.tenant_id = b.tenant_id and x.id = b.id limit 1) as l
    where b.transaction_type not in ('EXPIRY', 'REFILL');
end
$$;

-- sql/60_tenants/billed_before.sql

-- The row of the platform's trail that was written under a key of the tenant's, or none. The pool is locked.
--
-- Refuses: nonce_reused, when it came with another request; invalid_body.

create or replace function internal.billed_before(p_tenant_id uuid, p_idempotency_key text, p_request_hash text)
returns public.platform_billing_logs
language plpgsql stable
set search_path = ''
as $$
declare
  v_bill public.platform_billing_logs;
begin
  if length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  end if;
  select l.* into v_bill
    from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.idempotency_key = p_idempotency_key;
  if v_bill.id is not null and v_bill.request_hash is distinct from p_request_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;
  return v_bill;
end
$$;

-- sql/60_tenants/bulk_allocate_to_tenants.sql

-- Gives points of the platform to up to 1,000 pools at once: the same to each of p_tenant_ids, or p_allocations, an array
-- of {tenant_id, amount, currency, reference_note, idempotency_key}, of which the first two are needed. Each is done or
-- refused by itself; the hourly limit counts the call once. Returns {success_count, failed_count, results}; results tells
-- of each, in order and counted from 1, {position, tenant_id as it came, and what allocate_to_tenant answers, or code and
-- detail}.
--
-- Replay:  a key of the whole is each allocation's that has none: under it the same is answered as the first time, with
--          "replayed", for ever. Of p_tenant_ids one that is named twice is meant once; p_allocations are each meant, and the
--          second to one tenant has the key with "#2" after it.
-- Locks:   those of internal.allocate_to_tenants.
-- Refuses: forbidden, invalid_body, rate_limited; in place: invalid_body, invalid_amount, tenant_not_found, nonce_reused.

create or replace function public.bulk_allocate_to_tenants(
  p_user_id         uuid,
  p_tenant_ids      uuid[] default null,
  p_amount          numeric default null,
  p_allocations     jsonb default null,
  p_reference_note  text default null,
  p_currency        text default null,
  p_idempotency_key text default null,
  p_ip_address      inet default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_allocations jsonb := p_allocations;
begin
  if (p_tenant_ids is null) = (p_allocations is null) then
    perform internal.refuse('invalid_body', 'tenant_ids: either these are given, or allocations');
  elsif p_amount is not null and p_allocations is not null then
    perform internal.refuse('invalid_body', 'amount: each of the allocations says its own');
  elsif length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  elsif p_tenant_ids is not null then
    select coalesce(jsonb_agg(jsonb_build_object('tenant_id', t.id, 'amount', p_amount) order by t.ordinality), '[]') into v_allocations
      from unnest(p_tenant_ids) with ordinality as t(id);
  elsif jsonb_typeof(p_allocations) <> 'array' then
    perform internal.refuse('invalid_body', 'allocations: must be an array');
  end if;
  if jsonb_array_length(v_allocations) not between 1 and 1000 then
    perform internal.refuse('invalid_body', 'allocations: must be 1 to 1000');
  end if;

  return (
    select jsonb_build_object(
             'success_count', count(o.answer), 'failed_count', count(o.refusal),
             'results', jsonb_agg(
               jsonb_build_object('position', o."position", 'tenant_id', v_allocations -> (o."position" - 1) -> 'tenant_id')
                 || coalesce(o.answer, jsonb_build_object(
                      'success', false, 'code', o.refusal -> 'code', 'detail', o.refusal -> 'detail'))
               order by o."position"))
      from internal.allocate_to_tenants(
             p_user_id,
             (select jsonb_agg(
                       -- What an allocation leaves open may have come as null.
                       case when jsonb_typeof(a.entry) = 'object' then
                         jsonb_strip_nulls(
                           jsonb_build_object('currency', p_currency, 'idempotency_key', a.key) || jsonb_strip_nulls(a.entry))
                       else a.entry end order by a.ordinality)
                from (
                  -- Who allocates to one tenant several times in one call does so again when the call is repeated.
                  select x.entry, x.ordinality,
                         case when p_allocations is null or x.nth = 1 then p_idempotency_key
                              when length(p_idempotency_key) > 190 then md5(p_idempotency_key) || '#' || x.nth
                              else p_idempotency_key || '#' || x.nth end as key
                    from (select e.entry, e.ordinality, row_number() over (
                                   partition by lower(e.entry ->> 'tenant_id'), e.entry ->> 'idempotency_key' is null
                                   order by e.ordinality) as nth
                            from jsonb_array_elements(v_allocations) with ordinality as e(entry)) as x) as a),
             coalesce(p_reference_note, format('Bulk allocation for %s tenants', jsonb_array_length(v_allocations))),
             p_ip_address, 'CREDIT_INJECTION', v_actor, p_request_id) as o);
end
$$;

-- sql/60_tenants/clawback_allocation.sql

-- Takes points out of a tenant's pool, back to the platform: so many, or all that it holds. What was delegated or awarded
-- stays where it is. Returns {success, amount_clawed_back, new_balance, platform_log_id, reason}.
--
-- Replay:  under a key of the tenant's the same clawback is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, tenant_not_found, nonce_reused, insufficient_pool
--          (also when there is nothing).

create or replace function public.clawback_allocation(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_amount          numeric default null,
  p_reason          text default null,
  p_idempotency_key text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_refusal jsonb := internal.points_refusal(p_amount);
  v_hash text := internal.request_hash(jsonb_build_object('clawback', trim_scale(p_amount), 'reason', p_reason));
  v_pool numeric;
  v_bill public.platform_billing_logs;
  v_id uuid;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif p_amount is not null and v_refusal is not null then
    perform internal.refuse(v_refusal ->> 'code', v_refusal ->> 'detail');
  end if;

  v_pool := internal.locked_pool(p_tenant_id);
  v_bill := internal.billed_before(p_tenant_id, p_idempotency_key, v_hash);
  if v_bill.id is null then
    if v_pool = 0 or p_amount > v_pool then
      perform internal.refuse('insufficient_pool', format('Insufficient company allocation pool. Available: %s, Required: %s',
        internal.points_text(v_pool), coalesce(internal.points_text(p_amount), 'all')));
    end if;
    v_id := internal.uuidv7();
    perform internal.bill_tenants(array[row(
      p_tenant_id, v_id, -coalesce(p_amount, v_pool), 'CLAWBACK', null, p_user_id, v_actor, p_reason, p_idempotency_key, v_hash,
      p_request_id)::internal.tenant_bill]);
    select l.* into v_bill from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.id = v_id;
  end if;

  return jsonb_build_object(
      'success', true, 'tenant_id', p_tenant_id, 'amount_clawed_back', internal.points_text(-v_bill.amount),
      'new_balance', internal.points_text(v_bill.balance_after), 'platform_log_id', v_bill.id, 'reason', v_bill.reference_note)
    || case when v_id is null then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/create_tenant.sql

-- Opens a tenant with an empty pool, and makes a first manager where an account is named. An administrator's or a
-- program's. Returns {tenant_id, name, currency, currency_label, points_allocation_balance, manager}.
--
-- Replay:  a tenant's id may be the caller's own: the same again is answered with "replayed".
-- Locks:   none.
-- Refuses: forbidden, invalid_body, user_not_found, nonce_reused.

create or replace function public.create_tenant(
  p_user_id         uuid,
  p_name            text,
  p_currency        text default 'INR',
  p_currency_label  text default 'Points',
  p_manager_account text default null,
  p_tenant_id       uuid default null,
  p_reason          text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_manager uuid;
  v_tenant public.tenants;
  v_replayed boolean;
  v_answer jsonb;
begin
  if coalesce(p_name, '') !~ '\S' then
    perform internal.refuse('invalid_body', 'name: must be a name');
  elsif coalesce(p_currency, '') !~ '^[A-Z]{3}$' then
    perform internal.refuse('invalid_body', 'currency: must be three capital letters');
  elsif coalesce(p_currency_label, '') !~ '\S' then
    perform internal.refuse('invalid_body', 'currency_label: must be a name');
  end if;
  if p_manager_account is not null then
    v_manager := internal.user_of_account(p_manager_account);
  end if;

  insert into public.tenants as t (id, name, currency, currency_label)
  values (coalesce(p_tenant_id, internal.uuidv7()), p_name, p_currency, p_currency_label)
  on conflict (id) do nothing
  returning t.* into v_tenant;
  v_replayed := not found;
  if v_replayed then
    select t.* into v_tenant from public.tenants as t where t.id = p_tenant_id;
    if (v_tenant.name, v_tenant.currency, v_tenant.currency_label) is distinct from (p_name, p_currency, p_currency_label) then
      perform internal.refuse('nonce_reused', 'tenant_id: there is another tenant under this id');
    end if;
  elsif v_manager is not null then
    insert into public.tenant_members (tenant_id, user_id, role) values (v_tenant.id, v_manager, 'tenant_manager');
  end if;

  v_answer := jsonb_build_object(
    'tenant_id', v_tenant.id, 'name', v_tenant.name, 'currency', v_tenant.currency, 'currency_label', v_tenant.currency_label,
    'points_allocation_balance', internal.points_text(v_tenant.points_allocation_balance), 'manager', v_manager);
  if v_replayed then
    return v_answer || '{"replayed": true}';
  end if;
  perform internal.audit(v_actor, 'tenant.create', 'tenant', v_tenant.id::text, p_reason, null, v_answer, p_request_id);
  return v_answer;
end
$$;

-- sql/60_tenants/credit_wallet.sql

-- Fills a member's wallet from outside the pool: hr_allocation brings what an older system kept for them, adjustment puts
-- something right. An administrator's or a program's. Returns {tenant_id, user_id, amount, new_wallet_balance,
-- ledger_entry_id}.
--
-- Replay:  an entry's id may be the caller's own: the same again is answered as the first time, with "replayed", for ever.
-- Locks:   the entry's id; then the wallet's account. Not the member's row, which an award changes after the accounts.
-- Refuses: forbidden, tenant_not_found, recipient_not_found, own_event, invalid_body, invalid_amount, reason_required,
--          nonce_reused.

create or replace function public.credit_wallet(
  p_user_id    uuid,
  p_tenant_id  uuid,
  p_to_user_id uuid,
  p_amount     numeric,
  p_source     text,
  p_reason     text,
  p_entry_id   uuid default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_id uuid := coalesce(p_entry_id, internal.uuidv7());
  v_outcome text;
  v_entry public.wallet_ledger;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif p_amount is null or p_amount <= 0 or p_amount > 9999999999999.99 or scale(trim_scale(p_amount)) > 2 then
    perform internal.refuse('invalid_amount', 'amount: must be greater than zero, with at most two decimal places');
  elsif p_source is null or p_source not in ('hr_allocation', 'adjustment') then
    perform internal.refuse('invalid_body', 'source: must be hr_allocation or adjustment');
  elsif p_to_user_id = p_user_id then
    perform internal.refuse('own_event', 'to_user_id: nobody fills their own wallet');
  elsif not exists (select from public.tenants as t where t.id = p_tenant_id) then
    perform internal.refuse('tenant_not_found', 'Tenant not found');
  end if;

  -- A first credit finds no account to lock. Of two at once under one id, the second finds the first one's entry.
  perform pg_advisory_xact_lock(hashtextextended(format('tallybook.wallet_credit %s %s', p_tenant_id, v_id), 0));
  perform from public.tenant_members as m where m.tenant_id = p_tenant_id and m.user_id = p_to_user_id;
  if not found then
    perform internal.refuse('recipient_not_found', format('to_user_id: %s', p_to_user_id));
  end if;

  begin
    select m.outcome into v_outcome
      from internal.move_tenant_points(array[internal.tenant_move(
        p_tenant_id, case p_source when 'adjustment' then 'tenant.adjusted' else 'tenant.legacy' end, 'tenant.wallet:' || p_to_user_id,
        p_amount, 'wallet_credit', 'wallet_credit', v_id, v_id, p_source, p_reason, p_user_id)]) as m;
  exception when numeric_value_out_of_range then
    perform internal.refuse('invalid_amount', 'amount: no wallet holds as much, nor was ever filled with as much');
  end;
  select l.* into v_entry
    from public.wallet_ledger as l where l.tenant_id = p_tenant_id and l.id = v_id and l.user_id = p_to_user_id;
  if v_outcome = 'posted' then
    perform internal.audit(
      v_actor, 'wallet.credit', 'user', p_to_user_id::text, p_reason,
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after - p_amount)),
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after), 'tenant_id', p_tenant_id,
        'amount', internal.points_text(p_amount), 'source', p_source, 'ledger_entry_id', v_id), p_request_id);
  elsif (v_entry.points, v_entry.source, v_entry.reference_type) is distinct from (p_amount, p_source, 'wallet_credit') then
    perform internal.refuse('nonce_reused', 'entry_id: it came with another request before');
  end if;
  return jsonb_build_object(
      'tenant_id', p_tenant_id, 'user_id', p_to_user_id, 'amount', internal.points_text(p_amount),
      'new_wallet_balance', internal.points_text(v_entry.balance_after), 'ledger_entry_id', v_id)
    || case when v_outcome = 'replayed' then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/delegate_to_lead.sql

-- Gives a lead points of the pool to award, by a manager of the tenant. Returns {success,
-- lead_new_balance, tenant_remaining_balance, reference_note, delegation_id}.
--
-- Replay:  under a key of the manager's the same is answered as the first time, with "replayed", for ever.
-- Locks:   the lead's account, the pool; then the cache rows.
-- Refuses: forbidden, invalid_amount, invalid_body, recipient_not_found, nonce_reused, insufficient_pool.

create or replace function public.delegate_to_lead(
  p_user_id         uuid,
  p_lead_user_id    uuid,
  p_amount          numeric,
  p_reference_note  text default null,
  p_tenant_id       uuid default null,
  p_idempotency_key text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return internal.move_lead_budget(
    internal.membership(p_user_id, p_tenant_id), p_lead_user_id, p_amount, false, p_reference_note, p_idempotency_key, p_request_id);
end
$$;

-- sql/60_tenants/department_json.sql

-- A department as the procedures show it.

create or replace function internal.department_json(p_department public.departments)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'tenant_id', p_department.tenant_id, 'department_id', p_department.id, 'name', p_department.name,
    'monthly_cap', internal.points_text(p_department.monthly_cap));
end
$$;

-- sql/60_tenants/expire_allocations.sql

-- Takes out of at most p_limit pools what is left of the allocations whose time is up; returns {"expired": tenants, "lots":
-- n, "points": text}. Each becomes a row of the platform's trail that names it. After each look the tenant's row says until
-- when nothing of the pool ends.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   the pools, in order; then the allocations; then the cache rows.
-- Refuses: nothing.

create or replace function public.expire_allocations(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tenants uuid[] := array(
    select t.id from public.tenants as t where t.allocations_due_at <= v_now order by t.allocations_due_at limit p_limit);
  v_bills internal.tenant_bill[];
begin
  perform from internal.lock_pools(v_tenants);

  v_bills := array(
    select row(l.tenant_id, internal.uuidv7(), -l.remaining, 'EXPIRY', l.id, null, 'system', 'The allocation''s time is up', null, null,
               null)::internal.tenant_bill
      from internal.pool_lots(v_tenants) as l
     where l.is_allocation and l.remaining > 0 and l.expires_at <= v_now
     order by l.tenant_id, l.created_at, l.id);
  if cardinality(v_bills) > 0 then
    update public.allocation_logs as l
       set expired_amount = l.expired_amount - b.amount, status = 'EXPIRED', updated_at = v_now
      from unnest(v_bills) as b
     where l.tenant_id = b.tenant_id and l.id = b.allocation_id;
    perform internal.bill_tenants(v_bills);
  end if;

  update public.tenants as t
     set allocations_due_at = (
           select min(l.expires_at) from internal.pool_lots(array[t.id]) as l where l.expires_at > v_now)
   where t.id = any (v_tenants);

  return jsonb_build_object(
    'expired', cardinality(v_tenants), 'lots', cardinality(v_bills),
    'points', (select internal.points_text(coalesce(-sum(b.amount), 0)) from unnest(v_bills) as b));
end
$$;

-- sql/60_tenants/expire_wallet_lots.sql

-- Ends what was not spent in time of these wallets, tenant and user in the same places, and returns how many points that
-- were. Every credit of a wallet's statement is a lot, and the oldest is spent first: of the lots whose time is up there is
-- left what they brought less all that was ever taken. A refund is a new lot.
--
-- Replay:  what expired is taken; a second look finds nothing.
-- Locks:   the wallets' accounts, in order; then what internal.move_tenant_points locks.
-- Refuses: nothing.

create or replace function internal.expire_wallet_lots(p_tenant_ids uuid[], p_user_ids uuid[])
returns numeric
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_moves internal.tenant_movement[];
begin
  perform
     from (select d.tenant_id, 'tenant.wallet:' || d.user_id as account
             from unnest(p_tenant_ids, p_user_ids) as d(tenant_id, user_id)
            order by 1, 2) as d
    cross join lateral (
          select from ledger.accounts as a where a.book_id = d.tenant_id and a.account = d.account for update) as locked;

  v_moves := array(
    select internal.tenant_move(
             d.tenant_id, 'tenant.wallet:' || d.user_id, 'tenant.expired', e.points, 'expiry', 'wallet', w.id,
             p_wallet_source => 'expiry', p_description => 'Not spent in time', p_created_at => v_now)
      from unnest(p_tenant_ids, p_user_ids) as d(tenant_id, user_id)
      join public.tenants as t on t.id = d.tenant_id
      join public.wallets as w on w.tenant_id = d.tenant_id and w.user_id = d.user_id
     cross join lateral (
           select sum(case when l.transaction_type = 'debit' then -l.points
                           when l.created_at <= v_now - internal.wallet_term(t.wallet_expiry_policy) then l.points end) as points
             from public.wallet_ledger as l
            where l.tenant_id = d.tenant_id and l.user_id = d.user_id) as e
     where t.wallet_expiry_policy <> 'never' and e.points > 0
     order by d.tenant_id, d.user_id);
  if cardinality(v_moves) > 0 then
    perform from internal.move_tenant_points(v_moves);
  end if;

  -- From when the oldest is that is left. Where nothing is, whatever comes will come later than now.
  update public.wallets as w
     set oldest_lot_at = o.oldest_at
    from (
      select d.tenant_id, d.user_id, coalesce(min(c.created_at) filter (where c.upto > c.taken), v_now) as oldest_at
        from unnest(p_tenant_ids, p_user_ids) as d(tenant_id, user_id)
        left join lateral (
             select l.created_at, l.transaction_type,
                    sum(l.points) filter (where l.transaction_type = 'credit') over (order by l.created_at, l.id) as upto,
                    coalesce(sum(l.points) filter (where l.transaction_type = 'debit') over (), 0) as taken
               from public.wallet_ledger as l
              where l.tenant_id = d.tenant_id and l.user_id = d.user_id) as c on c.transaction_type = 'credit'
       group by d.tenant_id, d.user_id) as o
   where w.tenant_id = o.tenant_id and w.user_id = o.user_id;
  return coalesce((select sum(m.amount) from unnest(v_moves) as m), 0);
end
$$;

-- sql/60_tenants/expire_wallets.sql

-- Ends what was not spent in time, of at most p_limit wallets of the tenants whose policy says that it ends; returns
-- {"looked_at": wallets, "points": text}. Where a tenant's policy says 'never', as it does unless somebody changed it,
-- wallets are for ever.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   internal.expire_wallet_lots of all of them.
-- Refuses: nothing.

create or replace function public.expire_wallets(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tenant_ids uuid[];
  v_user_ids uuid[];
begin
  select coalesce(array_agg(d.tenant_id), '{}'), coalesce(array_agg(d.user_id), '{}')
    into v_tenant_ids, v_user_ids
    from (select w.tenant_id, w.user_id
            from public.tenants as t
           cross join lateral (
                 select x.tenant_id, x.user_id
                   from public.wallets as x
                  where x.tenant_id = t.id and x.oldest_lot_at <= v_now - internal.wallet_term(t.wallet_expiry_policy)
                    and x.oldest_lot_at < 'infinity'
                  order by x.oldest_lot_at
                  limit p_limit) as w
           where t.wallet_expiry_policy <> 'never'
           limit p_limit) as d;
  return jsonb_build_object(
    'looked_at', cardinality(v_tenant_ids),
    'points', internal.points_text(internal.expire_wallet_lots(v_tenant_ids, v_user_ids)));
end
$$;

-- sql/60_tenants/fund_recognitions.sql

-- Decides which account pays for each recognition: the first of its sources that holds all of it, in order of arrival, what was
-- paid before counted as gone. One source pays a whole recognition. Known keys are found, and departments' monthly caps kept.
--
-- Locks:   the keys; then every account that may pay, and the wallets that are reached where a wallet may pay, a department has
--          a cap or there are several tenants, in the ledger's order; then the departments that have a cap. Nothing that is
--          decided here can be undone by others before the commit.
-- Refuses: nonce_reused, department_cap_reached, insufficient_pool, insufficient_wallet; each as the verdict on one request.

create or replace function internal.fund_recognitions(p_asks internal.recognition_ask[])
returns internal.recognition_ask[]
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_asks internal.recognition_ask[] := p_asks;
  v_ask internal.recognition_ask;
  v_names text[];      -- tenant/account, or tenant/cap:department
  v_rooms numeric[];   -- what each has left
  v_twin record;       -- an earlier one under the same key
  v_givers uuid[];     -- whose wallets are among them
  v_tenants uuid[];    -- where wallets end, and whose there may pay
  v_givers_of uuid[];
  v_ids uuid[];        -- names in order of arrival, in which a wallet's statement shows what it got
  v_heads int;
  v_named int := 0;
  v_moves int := 0;
  v_known uuid[];      -- what is under the key of each
  v_hashes text[];     -- and the request with which it came
  v_system_gives boolean;
  v_payers internal.tenant_account[];
  v_wanted internal.tenant_account[];  -- they, and whoever must be locked with them
  v_is_capped boolean;
  v_wallets_pay boolean;
  v_are_several boolean;
  v_is_missing boolean;
  v_tenant_id uuid;    -- whose pool is at
  v_pool int;
  v_cap int;
  v_at int;
begin
  perform pg_advisory_xact_lock(l.key)
     from (select distinct hashtextextended(coalesce(a.from_user_id, a.tenant_id)::text, 60) as key
             from unnest(p_asks) as a where a.idempotency_key is not null and a.tenant_id is not null order by 1) as l;

  select coalesce(array_agg(distinct row(a.tenant_id, s.account)::internal.tenant_account), '{}'),
         coalesce(bool_or(a.is_capped), false), coalesce(bool_or(starts_with(s.account, 'tenant.wallet:')), false),
         count(distinct a.tenant_id) > 1
    into v_payers, v_is_capped, v_wallets_pay, v_are_several
    from (select distinct a.tenant_id, a.sources, a.monthly_cap is not null as is_capped
            from unnest(p_asks) as a
           where a.verdict is null and a.points > 0) as a
   cross join unnest(a.sources) as s(account);

  -- Whoever holds a wallet, a department or another tenant's pool must have all accounts, or two of them wait for one another.
  v_wanted := v_payers;
  if v_is_capped or v_wallets_pay or v_are_several then
    v_wanted := v_payers || array(
      select distinct row(a.tenant_id, 'tenant.wallet:' || r.user_id)::internal.tenant_account
        from unnest(p_asks) as a
       cross join unnest(a.recipients) as r(user_id)
       where a.verdict is null and a.points > 0
         and row(a.tenant_id, 'tenant.wallet:' || r.user_id)::internal.tenant_account <> all (v_payers));
  end if;

  -- A wallet without an account cannot be locked, and what came into it while others were waited for is seen the second time.
  for v_try in 1 .. 2 loop
    select coalesce(array_agg(w.tenant_id || '/' || w.account) filter (where w.pays), '{}'),
           coalesce(array_agg(coalesce(x.room, 0) / 100.0) filter (where w.pays), '{}'),
           array_agg(split_part(w.account, ':', 2)::uuid) filter (where w.pays and starts_with(w.account, 'tenant.wallet:')),
           coalesce(bool_or(x.room is null) filter (where w.pays and starts_with(w.account, 'tenant.wallet:')), false)
      into v_names, v_rooms, v_givers, v_is_missing
      from (select u.tenant_id, u.account, u.place <= cardinality(v_payers) as pays
              from unnest(v_wanted) with ordinality as u(tenant_id, account, place)
             order by u.tenant_id, u.account) as w
      left join lateral (
           select a.balance - a.held - a.floor as room
             from ledger.accounts as a
            where a.book_id = w.tenant_id and a.account = w.account
              for update) as x on true;
    exit when not v_is_missing;
  end loop;

  -- What was not spent in time is nobody's to give. It ends under the locks, and what is left is read once more.
  if v_givers is not null then
    select array_agg(w.tenant_id), array_agg(w.user_id)
      into v_tenants, v_givers_of
      from (select distinct a.tenant_id, a.from_user_id as user_id from unnest(p_asks) as a
             where a.verdict is null and a.points > 0 and 'tenant.wallet:' || a.from_user_id = any (a.sources)) as w
     cross join lateral (
           select from public.tenants as t where t.id = w.tenant_id and t.wallet_expiry_policy <> 'never' limit 1) as t;
    if v_tenants is not null and internal.expire_wallet_lots(v_tenants, v_givers_of) > 0 then
      v_rooms := array(
        select case when starts_with(split_part(r.name, '/', 2), 'tenant.wallet:') then coalesce(x.room, 0) / 100.0 else r.room end
          from unnest(v_names, v_rooms) with ordinality as r(name, room, place)
          left join lateral (
               select a.balance - a.held - a.floor as room
                 from ledger.accounts as a
                where a.book_id = split_part(r.name, '/', 1)::uuid and a.account = split_part(r.name, '/', 2) limit 1) as x on true
         order by r.place);
    end if;
  end if;

  if v_is_capped then
    perform internal.lock_departments(p_asks);
    select v_names || array_agg(d.tenant_id || '/cap:' || d.department_id), v_rooms || array_agg(d.monthly_cap - d.given)
      into v_names, v_rooms
      from (
        select c.tenant_id, c.department_id, x.monthly_cap, (
                 select coalesce(sum(r.points), 0) from public.recognitions as r
                  where r.tenant_id = c.tenant_id and r.department_id = c.department_id and r.status = 'active'
                    and r.created_at >= date_trunc('month', internal.clock())) as given
          from (select distinct a.tenant_id, a.department_id from unnest(p_asks) as a
                 where a.verdict is null and a.points > 0 and a.monthly_cap is not null) as c
         cross join lateral (
               select y.monthly_cap from public.departments as y
                where y.tenant_id = c.tenant_id and y.id = c.department_id limit 1) as x) as d;
  end if;

  -- What is under the key is read under the locks; it is answered as it was, whatever has changed since. The key is named as a
  -- range and in its order, and nothing may be sorted: so its own index is the only way in, also for who plans while the table is
  -- empty. No look-up by an index finds a giver or nobody, so that what the system gave is looked up by itself.
  select array_agg(k.id order by a.position), array_agg(k.request_hash order by a.position),
         sum(cardinality(a.recipients)) filter (where a.verdict is null), bool_or(a.from_user_id is null and a.idempotency_key is not null)
    into v_known, v_hashes, v_heads, v_system_gives
    from unnest(p_asks) as a
    left join lateral (
         select r.id, r.request_hash from public.recognitions as r
          where r.tenant_id = a.tenant_id and r.from_user_id = a.from_user_id
            and r.idempotency_key >= a.idempotency_key and r.idempotency_key <= a.idempotency_key
          order by r.idempotency_key limit 1) as k on true;
  if v_system_gives then
    select array_agg(coalesce(k.id, v_known[a.position]) order by a.position),
           array_agg(coalesce(k.request_hash, v_hashes[a.position]) order by a.position)
      into v_known, v_hashes
      from unnest(p_asks) as a
      left join lateral (
           select r.id, r.request_hash from public.recognitions as r
            where a.from_user_id is null and r.tenant_id = a.tenant_id and r.from_user_id is null
              and r.idempotency_key >= a.idempotency_key and r.idempotency_key <= a.idempotency_key
            order by r.from_user_id, r.idempotency_key limit 1) as k on true;
  end if;

  v_ids := internal.uuidv7s(v_heads);
  for v_place in 1 .. cardinality(v_asks) loop
    v_ask := v_asks[v_place];
    if v_known[v_place] is not null then
      v_ask.id := v_known[v_place];
      v_ask.verdict := case when v_hashes[v_place] = v_ask.request_hash then 'known' else 'nonce_reused' end;
      v_ask.detail := 'idempotency_key: it came with another request before';
      v_asks[v_place] := v_ask;
    end if;
    -- Several administrators give in the system's name, and so under the same keys.
    if v_known[v_place] is null and v_ask.from_user_id is null and v_ask.idempotency_key is not null then
      select a.id, case when a.request_hash = v_ask.request_hash then 'known' else 'nonce_reused' end as verdict,
             'idempotency_key: it came with another request before' as detail
        into v_twin
        from unnest(v_asks[:v_place - 1]) as a
       where a.tenant_id = v_ask.tenant_id and a.from_user_id is null and a.idempotency_key = v_ask.idempotency_key
         and a.verdict is null
       limit 1;
      if found then
        v_ask.id := v_twin.id;
        v_ask.verdict := v_twin.verdict;
        v_ask.detail := v_twin.detail;
        v_asks[v_place] := v_ask;
      end if;
    end if;
    continue when v_ask.verdict is not null;
    v_ask.entries := v_ids[v_named + 1 : v_named + cardinality(v_ask.recipients)];
    v_ask.id := v_ask.entries[1];
    v_named := v_named + cardinality(v_ask.recipients);
    if v_tenant_id is distinct from v_ask.tenant_id then
      v_tenant_id := v_ask.tenant_id;
      v_pool := array_position(v_names, v_tenant_id || '/tenant.pool');
      if v_pool is null then
        -- It does not pay, and is told all the same.
        v_pool := cardinality(v_names) + 1;
        v_names[v_pool] := v_tenant_id || '/tenant.pool';
        v_rooms[v_pool] := coalesce((
          select a.balance - a.held - a.floor from ledger.accounts as a
           where a.book_id = v_tenant_id and a.account = 'tenant.pool'), 0) / 100.0;
      end if;
    end if;
    if v_ask.points > 0 then
      v_cap := case when v_ask.monthly_cap is not null
                    then array_position(v_names, v_ask.tenant_id || '/cap:' || v_ask.department_id) end;
      if v_rooms[v_cap] < v_ask.points then
        v_ask.verdict := 'department_cap_reached';
        v_ask.detail := format('The department may give %s more this month. Required: %s',
                               internal.points_text(greatest(v_rooms[v_cap], 0)), internal.points_text(v_ask.points));
      else
        foreach v_ask.source in array v_ask.sources loop
          v_at := case when v_ask.source = 'tenant.pool' then v_pool else array_position(v_names, v_tenant_id || '/' || v_ask.source) end;
          exit when v_rooms[v_at] >= v_ask.points;
          v_at := null;
        end loop;
        if v_at is not null then
          v_ask.moves_before := v_moves;
          v_moves := v_moves + cardinality(v_ask.recipients);
          v_rooms[v_at] := v_rooms[v_at] - v_ask.points;
          if v_cap is not null then
            v_rooms[v_cap] := v_rooms[v_cap] - v_ask.points;
          end if;
          -- What somebody is given, they can give on.
          if v_ask.recipients && v_givers then
            for v_recipient in 1 .. cardinality(v_ask.recipients) loop
              v_at := array_position(v_names, v_ask.tenant_id || '/tenant.wallet:' || v_ask.recipients[v_recipient]);
              if v_at is not null then
                v_rooms[v_at] := v_rooms[v_at] + v_ask.shares[v_recipient];
              end if;
            end loop;
          end if;
        elsif 'tenant.pool' = any (v_ask.sources) then
          v_ask.verdict := 'insufficient_pool';
          v_ask.detail := format('Insufficient company allocation pool. Available: %s, Required: %s',
                                 internal.points_text(v_rooms[v_pool]), internal.points_text(v_ask.points));
        else
          v_ask.verdict := 'insufficient_wallet';
          v_ask.detail := format('Insufficient wallet. Available: %s, Required: %s',
            internal.points_text(coalesce(v_rooms[array_position(v_names, v_ask.tenant_id || '/' || v_ask.sources[1])], 0)),
            internal.points_text(v_ask.points));
        end if;
      end if;
    end if;
    v_ask.pool_after := v_rooms[v_pool];
    v_asks[v_place] := v_ask;
  end loop;
  return v_asks;
end
$$;

-- sql/60_tenants/give_recognition.sql

-- Recognizes one or many members of the caller's tenant, with points or without: internal.give_recognition_batch for one request.
-- Returns {recognition_id, points, recipients: [{user_id, points, new_wallet_balance, ledger_entry_id}], funded_by,
-- tenant_remaining_pool, status}. Points are each recipient's, or with the split 'equal' all of theirs together; an award tier says
-- how many in the tenant's own words.
--
-- Replay, Locks, Refuses: as internal.give_recognition_batch.

create or replace function public.give_recognition(
  p_user_id          uuid,
  p_recipients       uuid[],
  p_points           numeric default null,
  p_message          text default null,
  p_recognition_type text default 'standard',
  p_award_tier       text default null,
  p_split            text default 'flat',
  p_visibility       text default 'public',
  p_tenant_id        uuid default null,
  p_idempotency_key  text default null,
  p_request_id       text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.give_recognition_batch(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
           'user_id', p_user_id, 'recipients', p_recipients, 'points', p_points, 'message', p_message,
           'recognition_type', p_recognition_type, 'award_tier', p_award_tier, 'split', p_split, 'visibility', p_visibility,
           'tenant_id', p_tenant_id, 'idempotency_key', p_idempotency_key, 'request_id', p_request_id)))) as o;
  return internal.single(v_outcome);
end
$$;

-- sql/60_tenants/give_recognition_batch.sql

-- Recognizes people, with points or without: internal.recognize for requests as they come, each an
-- internal.recognition_request.
--
-- Replay, Locks, Refuses: as internal.recognize.

create or replace function internal.give_recognition_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return query
  select g.position,
         case when g.replayed then o.answer || '{"replayed": true}' when g.refusal is null then o.answer end,
         g.refusal
    from internal.recognize(array(
           select r::internal.recognition_request
             from jsonb_populate_recordset(null::internal.recognition_request, p_requests) as r)) as g
   cross join lateral (
         select jsonb_build_object('recognition_id', g.id, 'points', g.points, 'recipients', g.recipients, 'funded_by', g.funded_by,
                  'tenant_remaining_pool', g.pool, 'status', 'active') as answer) as o;
end
$$;

-- sql/60_tenants/keep_tenant.sql

-- Refuses to take a tenant away, or to call it by another id, once there is anything of it in the ledger: its book would be
-- nobody's, and its people's wallets too. A tenant that is no more is not active.

create or replace function internal.keep_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from ledger.accounts as a where a.book_id = old.id) then
    raise exception using
      errcode = '42501',
      message = format('tenant %s has points in the ledger', old.id),
      hint    = 'Set is_active to false.';
  end if;
  return coalesce(new, old);
end
$$;

create or replace trigger a_tenant_with_points_is_kept
before delete on public.tenants
for each row execute function internal.keep_tenant();

create or replace trigger a_tenant_with_points_keeps_its_id
before update of id on public.tenants
for each row when (old.id <> new.id)
execute function internal.keep_tenant();

-- sql/60_tenants/list_members.sql

-- A page of the people of a tenant, whom one may recognize: {members, next_cursor}. Everybody there sees who is active; those
-- who manage it, administrators and programs see who left as well, what leads can award and what is in the wallets. A search
-- finds part of a name. A cursor leads on from where a page ended, and is null at the end.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body, forbidden, tenant_not_found.

create or replace function public.list_members(
  p_user_id   uuid,
  p_tenant_id uuid default null,
  p_search    text default null,
  p_limit     int default 100,
  p_cursor    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_tenant_id uuid := p_tenant_id;
  v_limit int := coalesce(p_limit, 100);
  v_after uuid := uuid '00000000-0000-0000-0000-000000000000';
  v_member public.tenant_members;
  v_manages boolean;
  v_page public.tenant_members[];
begin
  if v_limit not between 1 and 500 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 500');
  elsif p_cursor is not null then
    if p_cursor !~ '^[A-Za-z0-9_-]{22}$' then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave');
    end if;
    v_after := encode(decode(translate(p_cursor, '-_', '+/') || '==', 'base64'), 'hex')::uuid;
  end if;

  if p_user_id is null or p_tenant_id is not null and exists (
       select from public.system_admins as s where s.id = p_user_id and s.is_active) then
    if p_tenant_id is null then
      perform internal.refuse('invalid_body', 'tenant_id: must be named');
    end if;
    perform internal.act_for(array[p_tenant_id]);
    perform from public.tenants as t where t.id = p_tenant_id;
    if not found then
      perform internal.refuse('tenant_not_found');
    end if;
    v_manages := true;
  else
    v_member := internal.membership(p_user_id, p_tenant_id);
    v_tenant_id := v_member.tenant_id;
    v_manages := v_member.role in ('tenant_manager', 'hr_admin');
  end if;

  v_page := array(
    select m
      from public.tenant_members as m
     where m.tenant_id = v_tenant_id and m.user_id > v_after and (v_manages or m.is_active)
       and (p_search is null or position(lower(p_search) in lower(m.display_name)) > 0)
     order by m.user_id
     limit v_limit + 1);

  return jsonb_build_object(
    'members', coalesce((
      select jsonb_agg(
               internal.member_json(row(
                 m.tenant_id, m.user_id, m.role, m.department_id, m.display_name, m.lead_distribution_balance, m.is_active, m.created_at,
                 m.updated_at)::public.tenant_members)
               || case when v_manages then jsonb_build_object(
                    'lead_distribution_balance', internal.points_text(m.lead_distribution_balance),
                    'wallet_balance', internal.points_text(coalesce(w.balance, 0))) else '{}'::jsonb end
               order by m.place)
        from unnest(v_page[:v_limit]) with ordinality as m(
               tenant_id, user_id, role, department_id, display_name, lead_distribution_balance, is_active, created_at, updated_at, place)
        left join lateral (
             select x.balance from public.wallets as x where x.tenant_id = m.tenant_id and x.user_id = m.user_id limit 1) as w on true), '[]'),
    'next_cursor', case when cardinality(v_page) > v_limit then
      translate(rtrim(encode(uuid_send(v_page[v_limit].user_id), 'base64'), '='), '+/', '-_') end);
end
$$;

-- sql/60_tenants/list_recognitions.sql

-- A page of what a member may see of the tenant's recognitions, the newest first: {recognitions, next_cursor}. That is what is
-- public, what is shown to their department, and what they gave or got themselves; a manager sees all of it. A cursor leads on
-- from where a page ended, whatever came meanwhile, and is null at the end.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body, forbidden.

create or replace function public.list_recognitions(
  p_user_id   uuid,
  p_tenant_id uuid default null,
  p_scope     text default 'all',
  p_limit     int default 25,
  p_cursor    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_member public.tenant_members;
  v_manages boolean;
  v_limit int := coalesce(p_limit, 25);
  -- In a variable, because a condition that calls a function is no index condition under row-level security.
  v_before uuid := uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_page public.recognitions[];
begin
  v_member := internal.membership(p_user_id, p_tenant_id);
  v_manages := v_member.role in ('tenant_manager', 'hr_admin');
  if p_scope not in ('all', 'given', 'received') then
    perform internal.refuse('invalid_body', 'scope: must be all, given or received');
  elsif v_limit not between 1 and 100 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 100');
  end if;
  if p_cursor is not null then
    if p_cursor !~ '^[A-Za-z0-9_-]{22}$' then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave');
    end if;
    v_before := encode(decode(translate(p_cursor, '-_', '+/') || '==', 'base64'), 'hex')::uuid;
  end if;

  -- Each way in goes along an index that brings the order with it: ids sort by time. An id is named as a range and in
  -- the order, where only its own index may lead to it.
  if p_scope = 'given' then
    v_page := array(
      select r from public.recognitions as r
       where r.tenant_id = v_member.tenant_id and r.from_user_id = p_user_id and r.id < v_before
       order by r.from_user_id desc, r.id desc
       limit v_limit + 1);
  elsif p_scope = 'received' then
    v_page := array(
      select r
        from (select x.recognition_id from public.recognition_recipients as x
               where x.tenant_id = v_member.tenant_id and x.user_id = p_user_id and x.recognition_id < v_before
               order by x.recognition_id desc
               limit v_limit + 1) as x
       cross join lateral (
             select y.* from public.recognitions as y
              where y.tenant_id = v_member.tenant_id and y.id >= x.recognition_id and y.id <= x.recognition_id
              order by y.id limit 1) as r
       order by x.recognition_id desc);
  else
    v_page := array(
      select r from public.recognitions as r
       where r.tenant_id = v_member.tenant_id and r.id < v_before
         and (v_manages or r.from_user_id = p_user_id
              or r.status = 'active' and (r.visibility = 'public' or r.visibility = 'department' and r.department_id = v_member.department_id)
              or r.to_user_id = p_user_id
              or exists (select from public.recognition_groups as x
                          where x.tenant_id = r.tenant_id and x.recognition_id = r.id and x.user_id = p_user_id))
       order by r.id desc
       limit v_limit + 1);
  end if;

  return jsonb_build_object(
    'recognitions', coalesce((
      select jsonb_agg(jsonb_build_object(
               'recognition_id', r.id, 'from_user_id', r.from_user_id, 'recognition_type', r.recognition_type, 'award_tier', r.award_tier,
               'message', r.message, 'points', internal.points_text(r.points), 'visibility', r.visibility, 'status', r.status,
               'created_at', r.created_at, 'recipients', g.recipients) order by r.place)
        from unnest(v_page[:v_limit]) with ordinality as r(
               tenant_id, id, from_user_id, to_user_id, recognition_type, award_tier, message, points, funded_by, visibility, status,
               department_id, pool_after, revoked_at, revoked_by, revoked_reason, idempotency_key, request_hash, request_id, created_at, updated_at, place)
       cross join lateral (
             select jsonb_agg(jsonb_build_object('user_id', x.user_id, 'points', internal.points_text(x.points)) order by x.place) as recipients
               from (select y.* from public.recognition_recipients as y
                      where y.tenant_id = r.tenant_id and y.recognition_id >= r.id and y.recognition_id <= r.id
                      order by y.recognition_id limit 200) as x) as g), '[]'),
    'next_cursor', case when cardinality(v_page) > v_limit then translate(rtrim(encode(
      uuid_send(v_page[v_limit].id), 'base64'), '='), '+/', '-_') end);
end
$$;

-- sql/60_tenants/lock_departments.sql

-- Locks the departments with a monthly cap whose people are about to give points: what a month has given is counted under it.
--
-- Locks: those departments, in order.

create or replace function internal.lock_departments(p_asks internal.recognition_ask[])
returns void
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  perform from public.departments as d
    where (d.tenant_id, d.id) in (
          select a.tenant_id, a.department_id from unnest(p_asks) as a
           where a.verdict is null and a.points > 0 and a.monthly_cap is not null)
    order by d.tenant_id, d.id
      for update;
end
$$;

-- sql/60_tenants/lock_pools.sql

-- Locks the pools of tenants, in the order in which everything locks them, and says what each holds. A pool that was never
-- filled has no row to lock: who fills it first is waited for, so that of two first allocations one sees the other.
--
-- Locks:   for the pools that there is no account of, an advisory lock each, in order; then the accounts, in order.

create or replace function internal.lock_pools(p_tenant_ids uuid[])
returns table (tenant_id uuid, balance numeric)
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_unfilled uuid[] := array(
    select u.id from unnest(p_tenant_ids) as u(id)
     where not exists (select from ledger.accounts as a where a.book_id = u.id and a.account = 'tenant.pool'));
begin
  -- Before any row: who waits for one of these holds no pool for which whoever has it could wait.
  if cardinality(v_unfilled) > 0 then
    perform pg_advisory_xact_lock(k.key)
       from (select hashtextextended(format('tallybook.unfilled_pool %s', u.id), 0) as key from unnest(v_unfilled) as u(id) order by 1) as k;
  end if;
  perform from ledger.lock(p_tenant_ids, 'tenant.pool');

  return query
    select u.id, coalesce(a.balance / 100.0, 0)::numeric(15, 2)
      from unnest(p_tenant_ids) as u(id)
      left join lateral (
           select x.balance from ledger.accounts as x where x.book_id = u.id and x.account = 'tenant.pool' limit 1) as a on true;
end
$$;

-- sql/60_tenants/locked_pool.sql

-- What a tenant's pool holds, which is locked until the transaction ends.
--
-- Locks:   internal.lock_pools.
-- Refuses: tenant_not_found.

create or replace function internal.locked_pool(p_tenant_id uuid)
returns numeric
language plpgsql volatile
set search_path = ''
as $$
begin
  perform from public.tenants as t where t.id = p_tenant_id;
  if not found then
    perform internal.refuse('tenant_not_found');
  end if;
  return (select l.balance from internal.lock_pools(array[p_tenant_id]) as l);
end
$$;

-- sql/60_tenants/managed_tenant.sql

-- Whose books a caller may look into: a manager's own tenant; for an administrator and a program the tenant that they name,
-- or null, which is every one.
--
-- Refuses: forbidden (no manager of this tenant), tenant_not_found, invalid_body (a manager of several named none).

create or replace function internal.managed_tenant(p_user_id uuid, p_tenant_id uuid default null)
returns uuid
language plpgsql volatile
set search_path = ''
as $$
declare
  v_member public.tenant_members;
begin
  if p_user_id is null or exists (select from public.system_admins as a where a.id = p_user_id and a.is_active) then
    if p_tenant_id is not null and not exists (select from public.tenants as t where t.id = p_tenant_id) then
      perform internal.refuse('tenant_not_found');
    end if;
    return p_tenant_id;
  end if;
  v_member := internal.membership(p_user_id, p_tenant_id);
  if v_member.role not in ('tenant_manager', 'hr_admin') then
    perform internal.refuse('forbidden', 'This is open to the managers of a tenant only.');
  end if;
  return v_member.tenant_id;
end
$$;

-- sql/60_tenants/managed_tenants.sql

-- The active tenants that whoever reads through PostgREST manages.

create or replace function internal.managed_tenants()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_user_id uuid := internal.caller_id();
begin
  return array(
    select m.tenant_id
      from public.tenant_members as m
     cross join lateral (select from public.tenants as t where t.id = m.tenant_id and t.is_active limit 1) as t
     where m.user_id = v_user_id and m.is_active and m.role in ('tenant_manager', 'hr_admin'));
end
$$;

-- sql/60_tenants/managing.sql

-- Who may set a tenant up: its managers, the platform's administrators, and programs, which bring no user. Says which
-- tenant is meant, as what they do it (administrator, tenant_manager, hr_admin), and how the audit log calls them. A
-- manager need not name the only tenant that they manage; everybody else must. A tenant that is not active has no managers:
-- it is the platform's alone.
--
-- Locks:   none.
-- Refuses: forbidden, invalid_body, tenant_not_found.

create or replace function internal.managing(
  p_user_id     uuid,
  p_tenant_id   uuid,
  p_actor       text default null,
  out tenant_id uuid,
  out role      text,
  out actor     text
)
returns record
language plpgsql stable
set search_path = ''
as $$
declare
  v_found public.tenant_members[];
begin
  if p_user_id is null or exists (select from public.system_admins as a where a.id = p_user_id and a.is_active) then
    role := 'administrator';
    actor := internal.actor(p_user_id, p_actor);
    if p_tenant_id is null then
      perform internal.refuse('invalid_body', 'tenant_id: must be named');
    end if;
    select t.id into tenant_id from public.tenants as t where t.id = p_tenant_id;
    if tenant_id is null then
      perform internal.refuse('tenant_not_found', 'Tenant not found');
    end if;
    return;
  end if;

  v_found := array(
    select m
      from public.tenant_members as m
     cross join lateral (select from public.tenants as t where t.id = m.tenant_id and t.is_active limit 1) as t
     where m.user_id = p_user_id and m.is_active and m.role in ('tenant_manager', 'hr_admin')
       and (p_tenant_id is null or m.tenant_id = p_tenant_id)
     limit 2);
  if cardinality(v_found) = 0 then
    perform internal.refuse('forbidden', 'This is open to a tenant''s managers only.');
  elsif cardinality(v_found) > 1 then
    perform internal.refuse('invalid_body', 'tenant_id: there are several, and one must be named');
  end if;
  tenant_id := v_found[1].tenant_id;
  role := v_found[1].role;
  actor := p_user_id::text;
end
$$;

-- sql/60_tenants/member_departments.sql

-- The departments of active tenants in which whoever reads through PostgREST works.

create or replace function internal.member_departments()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_user_id uuid := internal.caller_id();
begin
  return array(
    select m.department_id
      from public.tenant_members as m
     cross join lateral (select from public.tenants as t where t.id = m.tenant_id and t.is_active limit 1) as t
     where m.user_id = v_user_id and m.is_active and m.department_id is not null);
end
$$;

-- sql/60_tenants/member_json.sql

-- A membership as the procedures show it.

create or replace function internal.member_json(p_member public.tenant_members)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'tenant_id', p_member.tenant_id, 'user_id', p_member.user_id, 'role', p_member.role, 'department_id', p_member.department_id,
    'display_name', p_member.display_name, 'is_active', p_member.is_active);
end
$$;

-- sql/60_tenants/member_tenants.sql

-- The active tenants to which whoever reads through PostgREST belongs. A user sees their own memberships and no others,
-- and of tenants the active ones of these, so this needs no rights of its own.

create or replace function internal.member_tenants()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_user_id uuid := internal.caller_id();
begin
  return array(
    select m.tenant_id
      from public.tenant_members as m
     cross join lateral (select from public.tenants as t where t.id = m.tenant_id and t.is_active limit 1) as t
     where m.user_id = v_user_id and m.is_active);
end
$$;

-- sql/60_tenants/membership.sql

-- Who a caller is in which tenant: their one active membership of a tenant that is active, or the one that they name. From now
-- on the procedure acts for that tenant: row-level security hides every other one from it.
--
-- Locks:   none.
-- Refuses: forbidden (no such membership of an active tenant), invalid_body (several, and none was named).

create or replace function internal.membership(p_user_id uuid, p_tenant_id uuid default null)
returns public.tenant_members
language plpgsql volatile
set search_path = ''
as $$
declare
  v_found public.tenant_members[];
begin
  perform internal.act_for(array[p_user_id]);
  v_found := array(
    select m from public.tenant_members as m
     where m.user_id = p_user_id and m.is_active and (p_tenant_id is null or m.tenant_id = p_tenant_id));
  if cardinality(v_found) > 0 then
    -- Whether a tenant is active is seen only by who acts for it.
    perform internal.act_for(array(select f.tenant_id from unnest(v_found) as f));
    v_found := array(
      select f
        from unnest(v_found) as f
       cross join lateral (select from public.tenants as t where t.id = f.tenant_id and t.is_active limit 1) as t
       limit 2);
  end if;
  if cardinality(v_found) = 0 then
    perform internal.refuse('forbidden', 'This is open to the members of a tenant only.');
  elsif cardinality(v_found) > 1 then
    perform internal.refuse('invalid_body', 'tenant_id: there are several, and one must be named');
  end if;
  perform internal.act_for(array[v_found[1].tenant_id]);
  return v_found[1];
end
$$;

-- sql/60_tenants/move_lead_budget.sql

-- Moves points between the pool and a lead's budget, as a manager decided: below zero takes them back. Null is all that the
-- lead has. The caller's membership is known, and the procedure acts for the tenant.
--
-- Replay:  under a key of the manager's the same is answered as the first time, with "replayed", for ever.
-- Locks:   the lead's account, the pool; then the cache rows.
-- Refuses: forbidden, invalid_amount, invalid_body, recipient_not_found, nonce_reused, insufficient_pool,
--          insufficient_budget.

create or replace function internal.move_lead_budget(
  p_manager         public.tenant_members,
  p_lead_user_id    uuid,
  p_amount          numeric,
  p_is_recall       boolean,
  p_reference_note  text,
  p_idempotency_key text,
  p_request_id      text
)
returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tenant_id uuid := p_manager.tenant_id;
  v_account text := 'tenant.lead:' || p_lead_user_id;
  v_refusal jsonb := internal.points_refusal(p_amount);
  v_hash text := internal.request_hash(jsonb_build_object(
    'delegate', p_lead_user_id, 'amount', trim_scale(p_amount), 'recall', p_is_recall, 'reference_note', p_reference_note));
  v_lead numeric;
  v_pool numeric;
  v_amount numeric := p_amount;
  v_moved internal.tenant_moved;
  v_row public.lead_delegations;
  v_replayed boolean;
begin
  if p_manager.role not in ('tenant_manager', 'hr_admin') then
    perform internal.refuse('forbidden', 'This is open to those who manage a tenant only.');
  elsif v_refusal is not null and not (p_is_recall and p_amount is null) then
    perform internal.refuse(v_refusal ->> 'code', v_refusal ->> 'detail');
  elsif length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  end if;

  -- A first delegation finds no account to lock before the pool, and must not come back for it with the pool in its hands.
  if not p_is_recall
     and not exists (select from ledger.accounts as a where a.book_id = v_tenant_id and a.account = v_account) then
    perform ledger.open(v_tenant_id, v_account);
  end if;
  v_lead := coalesce((select l.available / 100.0 from ledger.lock(array[v_tenant_id], v_account) as l), 0);
  v_pool := coalesce((select l.available / 100.0 from ledger.lock(array[v_tenant_id], 'tenant.pool') as l), 0);

  select d.* into v_row
    from public.lead_delegations as d
   where d.tenant_id = v_tenant_id and d.delegated_by = p_manager.user_id and d.idempotency_key = p_idempotency_key;
  v_replayed := v_row.id is not null;
  if v_replayed and v_row.request_hash is distinct from v_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;

  if not v_replayed then
    -- Who is a lead no more keeps no budget; taking it back needs no office.
    perform from public.tenant_members as m
      where m.tenant_id = v_tenant_id and m.user_id = p_lead_user_id
        and (p_is_recall or m.is_active and m.role in ('tenant_lead', 'dept_lead', 'manager'));
    if not found then
      perform internal.refuse('recipient_not_found', 'lead_user_id: no lead of this tenant is known by it');
    end if;
    if p_is_recall then
      v_amount := coalesce(p_amount, v_lead);
      if v_amount = 0 or v_amount > v_lead then
        perform internal.refuse('insufficient_budget', format('amount: the lead has %s', internal.points_text(v_lead)));
      elsif v_pool + v_amount > 9999999999999.99 then
        perform internal.refuse('invalid_amount', 'amount: no pool holds as much');
      end if;
    elsif v_amount > v_pool then
      perform internal.refuse('insufficient_pool', format('Insufficient company allocation pool. Available: %s, Required: %s',
        internal.points_text(v_pool), internal.points_text(v_amount)));
    elsif v_lead + v_amount > 9999999999999.99 then
      perform internal.refuse('invalid_amount', 'amount: no lead holds as much');
    end if;

    v_row.id := internal.uuidv7();
    v_moved := internal.move_tenant_points(array[internal.tenant_move(
      v_tenant_id, case when p_is_recall then v_account else 'tenant.pool' end,
      case when p_is_recall then 'tenant.pool' else v_account end, v_amount, case when p_is_recall then 'recall' else 'delegation' end,
      'lead_delegation', v_row.id, v_row.id, p_created_by => p_manager.user_id, p_created_at => v_now)]);
    if v_moved.outcome is distinct from 'posted' then
      raise exception 'a balance changed that was locked';
    end if;
    insert into public.lead_delegations as d (
           tenant_id, id, delegated_by, lead_user_id, amount, lead_balance, pool_balance, reference_note, idempotency_key,
           request_hash, request_id, created_at)
    values (v_tenant_id, v_row.id, p_manager.user_id, p_lead_user_id, case when p_is_recall then -v_amount else v_amount end,
            case when p_is_recall then v_moved.from_balance else v_moved.to_balance end,
            case when p_is_recall then v_moved.to_balance else v_moved.from_balance end,
            p_reference_note, p_idempotency_key, v_hash, p_request_id, v_now)
    returning d.* into v_row;
    -- What comes back returns to the lots that it was of, and some may have ended meanwhile.
    update public.tenants as t set allocations_due_at = v_now
     where p_is_recall and t.id = v_tenant_id;
  end if;

  return jsonb_build_object(
      'success', true, 'tenant_id', v_tenant_id, 'lead_user_id', p_lead_user_id, 'amount', internal.points_text(abs(v_row.amount)),
      'lead_new_balance', internal.points_text(v_row.lead_balance), 'tenant_remaining_balance', internal.points_text(v_row.pool_balance),
      'reference_note', v_row.reference_note, 'delegation_id', v_row.id)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/move_tenant_points.sql

-- Moves points of tenants for a set of movements, and keeps what tells of them equal to the ledger: pools, leads' and
-- departments' budgets, wallets, and the wallets' statements. The only way a tenant's points move.
-- The pool is the tenant's hot row: it is locked when the ledger posts and written last.
--
-- Replay:  a movement whose transfer is in the book moves nothing again.
-- Locks:   the accounts, in order; then the cache rows: wallets, members, departments, the tenant.
-- Refuses: insufficient_funds, as an outcome. Movements are taken in their order; what is refused leaves room for the next.

create or replace function internal.move_tenant_points(p_moves internal.tenant_movement[])
returns setof internal.tenant_moved
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_posted ledger.posted[];
  v_legs internal.tenant_leg[];
  v_has_wallets boolean;
  v_has_first_points boolean;
  v_has_leads boolean;
  v_has_budgets boolean;
  v_has_pools boolean;
begin
  v_posted := array(
    select o
      from ledger.post(array(
             select row(m.id, m.tenant_id, m.from_account, m.to_account, (m.amount * 100)::bigint, m.kind, m.source_type,
                        m.source_id, m.created_at)::ledger.posting
               from unnest(p_moves) with ordinality as m
              order by m.ordinality)) as o
     order by o.position);

  -- What stood in an account after each movement: what stands there now, less what came later in the set.
  select array_agg(l::internal.tenant_leg), bool_or(l.kind = 'tenant.wallet'), bool_or(l.kind = 'tenant.wallet' and l.balance = l.delta),
         bool_or(l.kind = 'tenant.lead'), bool_or(l.kind = 'tenant.budget'), bool_or(l.kind = 'tenant.pool')
    into v_legs, v_has_wallets, v_has_first_points, v_has_leads, v_has_budgets, v_has_pools
    from (
      select m.ordinality::int as position, l.is_to, m.tenant_id, split_part(l.account, ':', 1) as kind,
             nullif(split_part(l.account, ':', 2), '')::uuid as owner, l.delta::numeric(15, 2) as delta,
             (l.available / 100.0 - coalesce(sum(l.delta) over (
               partition by m.tenant_id, l.account order by m.ordinality desc rows between unbounded preceding and 1 preceding), 0)
             )::numeric(15, 2) as balance,
             m.id, m.wallet_source, m.source_type, m.source_id, m.description, m.created_by, m.created_at
        from rows from (unnest(p_moves), unnest(v_posted)) with ordinality as m(
               tenant_id, id, from_account, to_account, amount, kind, source_type, source_id, wallet_source, description, created_by,
               created_at, position, transfer_id, outcome, from_available, to_available, ordinality)
       cross join lateral (values (false, m.from_account, -m.amount, m.from_available), (true, m.to_account, m.amount, m.to_available))
                          as l(is_to, account, delta, available)
       where m.outcome = 'posted') as l;

  if v_has_first_points then
    -- Who held nothing before may have had no wallet.
    insert into public.wallets as w (tenant_id, user_id, created_at, updated_at)
    select distinct l.tenant_id, l.owner, v_now, v_now
      from unnest(v_legs) as l
     where l.kind = 'tenant.wallet' and l.balance = l.delta
    on conflict (tenant_id, user_id) do nothing;
  end if;

  if v_has_wallets then
    update public.wallets as w
       set balance = w.balance + e.delta, lifetime_earned = w.lifetime_earned + e.earned, lifetime_spent = w.lifetime_spent + e.spent,
           updated_at = v_now
      from (select l.tenant_id, l.owner, sum(l.delta) as delta, sum(greatest(l.delta, 0)) as earned, sum(greatest(-l.delta, 0)) as spent
              from unnest(v_legs) as l
             where l.kind = 'tenant.wallet'
             group by l.tenant_id, l.owner) as e
     where w.tenant_id = e.tenant_id and w.user_id = e.owner;

    insert into public.wallet_ledger (
           tenant_id, id, wallet_id, user_id, transaction_type, source, points, balance_after, reference_type, reference_id,
           description, created_by, created_at)
    select l.tenant_id, l.id, w.id, l.owner, case when l.delta > 0 then 'credit' else 'debit' end, l.wallet_source, abs(l.delta),
           l.balance, l.source_type, l.source_id, l.description, l.created_by, l.created_at
      from unnest(v_legs) as l
     cross join lateral (
           select x.id from public.wallets as x where x.tenant_id = l.tenant_id and x.user_id = l.owner limit 1) as w
     where l.kind = 'tenant.wallet';
  end if;

  if v_has_leads then
    update public.tenant_members as x
       set lead_distribution_balance = x.lead_distribution_balance + d.delta, updated_at = v_now
      from (select l.tenant_id, l.owner, sum(l.delta) as delta
              from unnest(v_legs) as l
             where l.kind = 'tenant.lead'
             group by l.tenant_id, l.owner) as d
     where x.tenant_id = d.tenant_id and x.user_id = d.owner;
  end if;

  if v_has_budgets then
    update public.departments as x
       set budget_balance = x.budget_balance + d.delta
      from (select l.tenant_id, l.owner, sum(l.delta) as delta
              from unnest(v_legs) as l
             where l.kind = 'tenant.budget'
             group by l.tenant_id, l.owner) as d
     where x.tenant_id = d.tenant_id and x.id = d.owner;
  end if;

  if v_has_pools then
    update public.tenants as x
       set points_allocation_balance = x.points_allocation_balance + d.delta, updated_at = v_now
      from (select l.tenant_id, sum(l.delta) as delta
              from unnest(v_legs) as l
             where l.kind = 'tenant.pool'
             group by l.tenant_id
             order by l.tenant_id) as d
     where x.id = d.tenant_id;
  end if;

  return query
  select o.position, o.transfer_id, o.outcome, l.from_balance::numeric(15, 2), l.to_balance::numeric(15, 2)
    from unnest(v_posted) as o
    left join (
         select x.position, min(x.balance) filter (where not x.is_to) as from_balance, min(x.balance) filter (where x.is_to) as to_balance
           from unnest(v_legs) as x
          group by x.position) as l on l.position = o.position;
end
$$;

-- sql/60_tenants/platform_billing_logs_page.sql

-- A page of the platform's trail: what came into tenants and was taken from them, with its sign.
-- A manager sees their own tenant's, an administrator and a program one tenant's or everybody's.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, tenant_not_found, invalid_body.

create or replace function public.platform_billing_logs_page(
  p_user_id    uuid,
  p_tenant_id  uuid default null,
  p_type       text default null,
  p_search     text default null,
  p_amount_min numeric default null,
  p_amount_max numeric default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null,
  p_sort       text default 'created_at',
  p_direction  text default 'desc',
  p_page       int default null,
  p_limit      int default 25,
  p_cursor     text default null,
  p_with_total boolean default false
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := internal.managed_tenant(p_user_id, p_tenant_id);
begin
  if p_type not in ('CREDIT_INJECTION', 'CLAWBACK', 'ADJUSTMENT', 'REVERSAL', 'EXPIRY', 'REFILL') then
    perform internal.refuse('invalid_body', 'type: must be CREDIT_INJECTION, CLAWBACK, ADJUSTMENT, REVERSAL, EXPIRY or REFILL');
  end if;
  return internal.tenant_log_page(
    'platform_billing_logs', v_tenant_id, p_type, null, null, p_search, p_amount_min, p_amount_max, p_start_date, p_end_date,
    p_sort, p_direction, p_page, p_limit, p_cursor, p_with_total);
end
$$;

-- sql/60_tenants/points_ledger_stats.sql

-- What the logs of tenants come to: what was allocated, what the platform put in and took out by type, what the tenants have
-- now and where. What moved through wallets is told by source for one tenant; for all of them in one sum since ever.
-- The end date is not included; balances are those of now.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, tenant_not_found, invalid_body.

create or replace function public.points_ledger_stats(
  p_user_id    uuid,
  p_tenant_id  uuid default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_custom_plan
set jit = off
as $$
declare
  v_tenant_id uuid := internal.managed_tenant(p_user_id, p_tenant_id);
  v_from timestamptz := coalesce(p_start_date, '-infinity');
  v_until timestamptz := coalesce(p_end_date, 'infinity');
  v_answer jsonb;
begin
  if v_until < v_from then
    perform internal.refuse('invalid_body', 'end_date: must not lie before start_date');
  end if;

  select jsonb_build_object(
           'tenant_id', v_tenant_id, 'from', p_start_date, 'to', p_end_date,
           'allocations', (
             select jsonb_build_object('count', count(*), 'amount', internal.points_text(coalesce(sum(x.amount), 0)),
                      'reversed', internal.points_text(coalesce(sum(x.reversed_amount), 0)), 'last_at', max(x.created_at))
               from public.allocation_logs as x
              where (v_tenant_id is null or x.tenant_id = v_tenant_id) and x.created_at >= v_from and x.created_at < v_until),
           'billing', (
             select coalesce(jsonb_object_agg(b.transaction_type, jsonb_build_object(
                      'count', b.entries, 'amount', internal.points_text(b.amount))), '{}')
               from (select x.transaction_type, count(*) as entries, sum(x.amount) as amount
                       from public.platform_billing_logs as x
                      where (v_tenant_id is null or x.tenant_id = v_tenant_id) and x.created_at >= v_from and x.created_at < v_until
                      group by x.transaction_type) as b),
           'tenants', t.tenants,
           'balances', jsonb_build_object('pool', internal.points_text(t.pool), 'leads', internal.points_text(m.leads),
             'departments', internal.points_text(d.departments), 'wallets', internal.points_text(w.balance)),
           'wallets', jsonb_build_object('count', w.wallets, 'earned', internal.points_text(w.balance + w.spent),
             'spent', internal.points_text(w.spent)))
    into v_answer
    from (select count(*) as tenants, coalesce(sum(x.points_allocation_balance), 0) as pool
            from public.tenants as x where v_tenant_id is null or x.id = v_tenant_id) as t
   cross join (select coalesce(sum(x.lead_distribution_balance), 0) as leads
            from public.tenant_members as x where (v_tenant_id is null or x.tenant_id = v_tenant_id) and x.lead_distribution_balance > 0) as m
   cross join (select coalesce(sum(x.budget_balance), 0) as departments
            from public.departments as x where v_tenant_id is null or x.tenant_id = v_tenant_id) as d
   -- What was earned is what is there and what was spent: adding up is what takes the time, where wallets are many.
   cross join (select count(*) as wallets, coalesce(sum(x.balance), 0) as balance,
                coalesce(sum(x.lifetime_spent) filter (where x.lifetime_spent > 0), 0) as spent
            from public.wallets as x where v_tenant_id is null or x.tenant_id = v_tenant_id) as w;

  if v_tenant_id is not null then
    v_answer := v_answer || jsonb_build_object('entries', (
      select coalesce(jsonb_object_agg(e.source, jsonb_build_object('count', e.entries, 'credited', internal.points_text(e.credited),
               'debited', internal.points_text(e.debited))), '{}')
        from (select x.source, count(*) as entries, coalesce(sum(x.points) filter (where x.transaction_type = 'credit'), 0) as credited,
                     coalesce(sum(x.points) filter (where x.transaction_type = 'debit'), 0) as debited
                from public.wallet_ledger as x
               where x.tenant_id = v_tenant_id and x.created_at >= v_from and x.created_at < v_until
               group by x.source) as e));
  end if;
  return v_answer;
end
$$;

-- sql/60_tenants/points_refusal.sql

-- Why this is no number of tenants' points to move: the refusal, or null.

create or replace function internal.points_refusal(p_points numeric, p_argument text default 'amount')
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  if p_points is null or p_points <= 0 then
    return internal.refusal('invalid_amount', p_argument || ': must be a number greater than zero');
  elsif p_points > 9999999999999.99 then
    return internal.refusal('invalid_amount', p_argument || ': must be at most 9999999999999.99');
  elsif scale(trim_scale(p_points)) > 2 then
    return internal.refusal('invalid_amount', p_argument || ': must have at most two decimal places');
  end if;
  return null;
end
$$;

-- sql/60_tenants/points_text.sql

-- An amount of points as the tenants' addresses write it: a decimal text with no places that say nothing ('50000', '49000.5').

create or replace function internal.points_text(p_points numeric)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return trim_scale(p_points)::text;
end
$$;

-- sql/60_tenants/pool_lots.sql

-- What is in tenants' pools, by how it came: each allocation, and each adjustment upwards, what of it is left, and when
-- that ends. First come, first spent: what a pool holds is of its latest lots. What was taken back or expired was of the
-- allocation that it names. Nothing of this is stored; an allocation's row says what was taken of it by name. What comes
-- back from leads and members goes to the lots it was of.

create or replace function internal.pool_lots(p_tenant_ids uuid[])
returns table (tenant_id uuid, id uuid, is_allocation boolean, amount numeric, remaining numeric, created_at timestamptz, expires_at timestamptz)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return query
  with lot as (
    select l.tenant_id, l.id, true as is_allocation, l.amount, l.amount - l.reversed_amount - l.expired_amount as kept, l.created_at,
           l.expires_at
      from public.allocation_logs as l
     where l.tenant_id = any (p_tenant_ids)
    union all
    select b.tenant_id, b.id, false, b.amount, b.amount, b.created_at, null
      from public.platform_billing_logs as b
     where b.tenant_id = any (p_tenant_ids) and b.transaction_type = 'ADJUSTMENT' and b.amount > 0
       -- A row that somebody wrote by hand moved nothing.
       and exists (select from ledger.transfers as t where t.book_id = b.tenant_id and t.transfer_id = b.id)
  ), later as (
    select l.*, coalesce(sum(l.kept) over (
             partition by l.tenant_id order by l.created_at desc, l.id desc rows between unbounded preceding and 1 preceding), 0) as kept_later
      from lot as l
  )
  select l.tenant_id, l.id, l.is_allocation, l.amount,
         greatest(0, least(l.kept, coalesce(a.balance, 0) / 100.0 - l.kept_later))::numeric(15, 2), l.created_at, l.expires_at
    from later as l
    left join lateral (
         select x.balance from ledger.accounts as x where x.book_id = l.tenant_id and x.account = 'tenant.pool' limit 1) as a on true;
end
$$;

-- sql/60_tenants/recall_from_lead.sql

-- Takes points back from a lead's budget into the pool, by a manager of the tenant: so many, or all. Returns {success,
-- lead_new_balance, tenant_remaining_balance, reference_note, delegation_id}.
--
-- Replay:  under a key of the manager's the same is answered as the first time, with "replayed", for ever.
-- Locks:   the lead's account, the pool; then the cache rows.
-- Refuses: forbidden, invalid_amount, invalid_body, recipient_not_found, nonce_reused, insufficient_budget.

create or replace function public.recall_from_lead(
  p_user_id         uuid,
  p_lead_user_id    uuid,
  p_amount          numeric default null,
  p_reference_note  text default null,
  p_tenant_id       uuid default null,
  p_idempotency_key text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return internal.move_lead_budget(
    internal.membership(p_user_id, p_tenant_id), p_lead_user_id, p_amount, true, p_reference_note, p_idempotency_key, p_request_id);
end
$$;

-- sql/60_tenants/recall_recognitions.sql

-- What those were answered whose request is known, once more, whatever has changed since.
-- They are looked up with ids named as ranges and in their order, and nothing may be sorted: so the primary keys are the only way in.

create or replace function internal.recall_recognitions(p_asks internal.recognition_ask[])
returns setof internal.recognition_given
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
begin
  return query
  select a.position, r.id, internal.points_text(r.points), k.recipients, r.funded_by::text, internal.points_text(r.pool_after), true, null::jsonb
    from unnest(p_asks) as a
   cross join lateral (
         select x.* from public.recognitions as x
          where x.tenant_id = a.tenant_id and x.id >= a.id and x.id <= a.id
          order by x.id limit 1) as r
   cross join lateral (
         select jsonb_agg(jsonb_build_object('user_id', x.user_id, 'points', internal.points_text(x.points),
                  'new_wallet_balance', internal.points_text(l.balance_after), 'ledger_entry_id', x.entry_id) order by x.place) as recipients
           from (select y.* from public.recognition_recipients as y
                  where y.tenant_id = a.tenant_id and y.recognition_id >= a.id and y.recognition_id <= a.id
                  order by y.recognition_id limit 200) as x
           left join lateral (
                select y.balance_after from public.wallet_ledger as y
                 where y.tenant_id = x.tenant_id and y.id >= x.entry_id and y.id <= x.entry_id
                   and y.user_id >= x.user_id and y.user_id <= x.user_id
                 order by y.id, y.user_id limit 1) as l on true) as k
   where a.verdict = 'known';
end
$$;

-- sql/60_tenants/recognition_recipients.sql

-- Whom a recognition went to, one or several, in the order in which they were named. A row is seen by whoever sees what it is of.

create or replace view public.recognition_recipients with (security_invoker = true) as
select r.tenant_id, r.id as recognition_id, r.to_user_id as user_id, r.points, 1 as place,
       case when r.points > 0 then r.id end as entry_id  -- the wallet_ledger's row; null where there were no points
  from public.recognitions as r
 where r.to_user_id is not null
 union all
select g.tenant_id, g.recognition_id, g.user_id, g.points, g.place, g.entry_id
  from public.recognition_groups as g;

-- sql/60_tenants/recognize.sql

-- Recognizes people for a set of requests, with points or without. One account pays a whole recognition: a lead's own budget, else
-- the company's pool, and where the tenant falls back to what there was of old, the department's budget and then the giver's
-- wallet. An employee gives from their own wallet where members may give to one another. Requests of one tenant are decided in
-- order of arrival.
--
-- Replay:  the same request under the same key is answered as the first time, with "replayed", for ever. Without a key each is new.
-- Locks:   internal.fund_recognitions; then the rows it writes.
-- Refuses: what they say of one request: invalid_body, invalid_amount, nonce_reused, forbidden, tenant_not_found,
--          recipient_not_found, self_recognition, peer_to_peer_off, department_cap_reached, insufficient_pool, insufficient_wallet.

create or replace function internal.recognize(p_requests internal.recognition_request[])
returns setof internal.recognition_given
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_asks internal.recognition_ask[] := internal.fund_recognitions(internal.ask_recognitions(p_requests));
  v_moves internal.tenant_movement[];
  v_balances numeric[];
  v_is_posted boolean;
  v_answered int;
begin
  v_moves := array(
    select row(a.tenant_id, r.entry_id, a.source, 'tenant.wallet:' || r.user_id, r.share, 'recognition', 'recognition', a.id,
               'recognition', a.message, a.asked_by, v_now)::internal.tenant_movement
      from unnest(v_asks) as a
     cross join unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)
     where a.verdict is null and r.share > 0
     order by a.position, r.place);

  insert into public.recognitions (
         tenant_id, id, from_user_id, to_user_id, recognition_type, award_tier, message, points, funded_by, visibility, department_id,
         pool_after, idempotency_key, request_hash, request_id, created_at, updated_at)
  select a.tenant_id, a.id, a.from_user_id, case when cardinality(a.recipients) = 1 then a.recipients[1] end, a.recognition_type,
         a.award_tier, a.message, a.points, coalesce(split_part(split_part(a.source, ':', 1), '.', 2), 'nothing'), a.visibility,
         a.department_id, a.pool_after, a.idempotency_key, a.request_hash, a.request_id, v_now, v_now
    from unnest(v_asks) as a
   where a.verdict is null;

  if exists (select from unnest(v_asks) as a where cardinality(a.recipients) > 1) then
    insert into public.recognition_groups (tenant_id, recognition_id, user_id, points, place, entry_id)
    select a.tenant_id, a.id, r.user_id, r.share, r.place, case when r.share > 0 then r.entry_id end
      from unnest(v_asks) as a
     cross join unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)
     where a.verdict is null and cardinality(a.recipients) > 1;
  end if;

  if cardinality(v_moves) > 0 then
    select array_agg(o.to_balance order by o.position), bool_and(o.outcome = 'posted')
      into v_balances, v_is_posted
      from internal.move_tenant_points(v_moves) as o;
    if not v_is_posted then
      raise exception 'an account does not hold what was found in it under its lock';
    end if;
  end if;

  -- What internal.points_text says is written out here: a call for each costs more than all the rest of an answer.
  return query
  select a.position, a.id, trim_scale(a.points)::text, (
           select jsonb_agg(jsonb_build_object('user_id', r.user_id, 'points', trim_scale(r.share)::text,
                    'new_wallet_balance', trim_scale(v_balances[a.moves_before + r.place])::text,
                    'ledger_entry_id', case when r.share > 0 then r.entry_id end) order by r.place)
             from unnest(a.recipients, a.shares, a.entries) with ordinality as r(user_id, share, entry_id, place)),
         coalesce(split_part(split_part(a.source, ':', 1), '.', 2), 'nothing'), trim_scale(a.pool_after)::text, false, null::jsonb
    from unnest(v_asks) as a
   where a.verdict is null;
  get diagnostics v_answered = row_count;

  if v_answered < cardinality(v_asks) then
    return query
    select k.* from internal.recall_recognitions(v_asks) as k
     union all
    select a.position, null, null, null, null, null, null, internal.refusal(a.verdict, a.detail)
      from unnest(v_asks) as a
     where a.verdict <> 'known';
  end if;
end
$$;

-- sql/60_tenants/redeem_reward.sql

-- Spends a member's points on a reward of their tenant. Returns {redemption_id, tenant_id, reward_id, reward_name,
-- points_spent, new_wallet_balance, ledger_entry_id}.
--
-- Replay:  under a key of the member's the same redemption is answered as the first time, with "replayed", for ever.
-- Locks:   the wallet's account; then the reward's row, where its stock ends.
-- Refuses: invalid_body, forbidden, nonce_reused, redemptions_paused, reward_not_found, reward_out_of_stock,
--          insufficient_wallet.

create or replace function public.redeem_reward(
  p_user_id         uuid,
  p_reward_id       uuid,
  p_tenant_id       uuid default null,
  p_idempotency_key text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_tenant_id uuid := (internal.membership(p_user_id, p_tenant_id)).tenant_id;
  v_wallet text := 'tenant.wallet:' || p_user_id;
  v_hash text := internal.request_hash(jsonb_build_object('reward', p_reward_id));
  v_tenant public.tenants;
  v_available numeric(15, 2);
  v_reward public.rewards;
  v_done public.reward_redemptions;
  v_replayed boolean;
  v_entry public.wallet_ledger;
begin
  if length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  elsif p_reward_id is null then
    perform internal.refuse('invalid_body', 'reward_id: must be named');
  end if;

  perform from ledger.lock(array[v_tenant_id], v_wallet);
  select x.* into v_done
    from public.reward_redemptions as x
   where x.tenant_id = v_tenant_id and x.user_id = p_user_id and x.idempotency_key = p_idempotency_key;
  v_replayed := v_done.id is not null;
  if v_replayed and v_done.request_hash <> v_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;

  if not v_replayed then
    select t.* into v_tenant from public.tenants as t where t.id = v_tenant_id;
    if v_tenant.redemptions_paused then
      perform internal.refuse('redemptions_paused', 'This tenant has paused them.');
    end if;
    if v_tenant.wallet_expiry_policy <> 'never' then
      perform internal.expire_wallet_lots(array[v_tenant_id], array[p_user_id]);
    end if;

    select r.* into v_reward from public.rewards as r where r.tenant_id = v_tenant_id and r.id = p_reward_id and r.is_active;
    if v_reward.id is null then
      perform internal.refuse('reward_not_found', format('reward_id: %s', p_reward_id));
    elsif v_reward.stock is not null then
      -- Somebody may have changed or emptied it since it was read.
      update public.rewards as r
         set stock = r.stock - 1, updated_at = internal.clock()
       where r.tenant_id = v_tenant_id and r.id = p_reward_id and r.is_active and (r.stock > 0 or r.stock is null)
      returning r.* into v_reward;
      if not found then
        perform internal.refuse('reward_out_of_stock', format('reward_id: %s', p_reward_id));
      end if;
    end if;

    select coalesce(min(a.balance - a.held), 0) / 100.0 into v_available
      from ledger.accounts as a where a.book_id = v_tenant_id and a.account = v_wallet;
    if v_available < v_reward.points_cost then
      perform internal.refuse('insufficient_wallet', format('Available: %s, Required: %s',
        internal.points_text(v_available), internal.points_text(v_reward.points_cost)));
    end if;

    v_done.tenant_id := v_tenant_id;
    v_done.id := internal.uuidv7();
    v_done.entry_id := internal.uuidv7();
    v_done.reward_id := p_reward_id;
    v_done.points := v_reward.points_cost;
    perform from internal.move_tenant_points(array[internal.tenant_move(
      v_tenant_id, v_wallet, 'tenant.redeemed', v_done.points, 'redemption', 'reward_redemption', v_done.id, v_done.entry_id,
      'redemption', v_reward.name, p_user_id)]);
    insert into public.reward_redemptions (
           tenant_id, id, user_id, reward_id, points, entry_id, idempotency_key, request_hash, request_id)
    values (v_tenant_id, v_done.id, p_user_id, p_reward_id, v_done.points, v_done.entry_id, p_idempotency_key, v_hash, p_request_id);
  end if;

  select l.* into v_entry
    from public.wallet_ledger as l where l.tenant_id = v_tenant_id and l.id = v_done.entry_id and l.user_id = p_user_id;
  return jsonb_build_object(
      'redemption_id', v_done.id, 'tenant_id', v_tenant_id, 'reward_id', v_done.reward_id, 'reward_name', v_entry.description,
      'points_spent', internal.points_text(v_done.points), 'new_wallet_balance', internal.points_text(v_entry.balance_after),
      'ledger_entry_id', v_done.entry_id)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/refill_pools.sql

-- Fills at most p_limit pools that fell below the percentage of their refill at which they are to be filled again; returns
-- {"refilled": n, "points": text}. A refill is an allocation, and lifts the pool above that percentage: once a crossing.
--
-- Replay:  a pool that was filled is not below it any more.
-- Locks:   those of internal.allocate_to_tenants.
-- Refuses: nothing.

create or replace function public.refill_pools(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tenants uuid[];
  v_refilled uuid[];
  v_points numeric;
begin
  v_tenants := array(
    select t.id from public.tenants as t
     where t.auto_refill_amount is not null and t.is_active
       and t.points_allocation_balance < t.auto_refill_amount * t.auto_refill_threshold / 100
     order by t.id limit p_limit);

  -- Another worker may have filled some before this one held the lock.
  v_tenants := array(
    select l.tenant_id
      from internal.lock_pools(v_tenants) as l
      join public.tenants as t on t.id = l.tenant_id and t.is_active
     where l.balance < t.auto_refill_amount * t.auto_refill_threshold / 100
     order by l.tenant_id);
  if cardinality(v_tenants) = 0 then
    return '{"refilled": 0, "points": "0"}'::jsonb;
  end if;

  select array_agg((o.answer ->> 'tenant_id')::uuid), coalesce(sum((o.answer ->> 'amount_allocated')::numeric), 0)
    into v_refilled, v_points
    from internal.allocate_to_tenants(
           null, (select jsonb_agg(jsonb_build_object('tenant_id', t.id, 'amount', t.auto_refill_amount) order by t.id)
                    from public.tenants as t where t.id = any (v_tenants)),
           'Automatic refill', null, 'REFILL', 'system', null) as o
   where o.answer is not null;

  insert into public.tenant_alerts as x (tenant_id, kind, threshold, balance, created_at)
  select t.id, 'refilled', t.auto_refill_amount * t.auto_refill_threshold / 100, t.points_allocation_balance, v_now
    from public.tenants as t
   where t.id = any (v_refilled)
   order by t.id;
  return jsonb_build_object('refilled', coalesce(cardinality(v_refilled), 0), 'points', internal.points_text(v_points));
end
$$;

-- sql/60_tenants/refund_reward_redemption.sql

-- Gives back the points of a redemption, and puts the reward back where its stock ends. A manager's, an administrator's or
-- a program's decision. The entry in the wallet bears the redemption's id. Returns {redemption_id, tenant_id, user_id,
-- reward_id, points_refunded, new_wallet_balance, ledger_entry_id}.
--
-- Replay:  what was refunded is answered as the first time, with "replayed", whatever the reason now.
-- Locks:   the wallet's account; then the reward's row.
-- Refuses: forbidden, invalid_body, invalid_amount, tenant_not_found, reason_required, redemption_not_found, own_event.

create or replace function public.refund_reward_redemption(
  p_user_id       uuid,
  p_redemption_id uuid,
  p_reason        text,
  p_tenant_id     uuid default null,
  p_actor         text default null,
  p_request_id    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_who record := internal.managing(p_user_id, p_tenant_id, p_actor);
  v_done public.reward_redemptions;
  v_replayed boolean;
  v_entry public.wallet_ledger;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  select x.* into v_done from public.reward_redemptions as x where x.tenant_id = v_who.tenant_id and x.id = p_redemption_id;
  if v_done.id is null then
    perform internal.refuse('redemption_not_found', format('redemption_id: %s', p_redemption_id));
  elsif v_done.user_id = p_user_id then
    perform internal.refuse('own_event', 'redemption_id: nobody refunds points to themselves');
  end if;

  perform from ledger.lock(array[v_who.tenant_id], 'tenant.wallet:' || v_done.user_id);
  update public.reward_redemptions as x
     set status = 'refunded'
   where x.tenant_id = v_who.tenant_id and x.id = p_redemption_id and x.status = 'completed';
  v_replayed := not found;

  if not v_replayed then
    begin
      perform from internal.move_tenant_points(array[internal.tenant_move(
        v_who.tenant_id, 'tenant.redeemed', 'tenant.wallet:' || v_done.user_id, v_done.points, 'reversal', 'reward_redemption',
        v_done.id, v_done.id, 'reversal', p_reason, p_user_id)]);
    exception when numeric_value_out_of_range then
      perform internal.refuse('invalid_amount', 'redemption_id: no wallet holds as much, nor was ever filled with as much');
    end;
    update public.rewards as r
       set stock = r.stock + 1, updated_at = internal.clock()
     where r.tenant_id = v_who.tenant_id and r.id = v_done.reward_id and r.stock is not null;
  end if;

  select l.* into v_entry
    from public.wallet_ledger as l where l.tenant_id = v_who.tenant_id and l.id = v_done.id and l.user_id = v_done.user_id;
  if not v_replayed then
    perform internal.audit(
      v_who.actor, 'reward.refund', 'user', v_done.user_id::text, p_reason,
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after - v_done.points)),
      jsonb_build_object('balance', internal.points_text(v_entry.balance_after), 'tenant_id', v_who.tenant_id,
        'redemption_id', v_done.id, 'points', internal.points_text(v_done.points)), p_request_id);
  end if;
  return jsonb_build_object(
      'redemption_id', v_done.id, 'tenant_id', v_who.tenant_id, 'user_id', v_done.user_id, 'reward_id', v_done.reward_id,
      'points_refunded', internal.points_text(v_done.points), 'new_wallet_balance', internal.points_text(v_entry.balance_after),
      'ledger_entry_id', v_done.id)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/reverse_allocation.sql

-- Takes one allocation back to the platform, or so much of it: what neither was taken back already nor has expired, as far
-- as the pool still holds points. Without an amount that is all there is to take. Returns {success, allocation_log_id,
-- amount_reversed, reversed_in_all, status, new_balance, platform_log_id, reason}.
--
-- Replay:  under a key of the tenant's the same reversal is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools; the allocation's row.
-- Refuses: forbidden, reason_required, invalid_amount, invalid_body, tenant_not_found, allocation_not_found, nonce_reused,
--          not_reversible.

create or replace function public.reverse_allocation(
  p_user_id         uuid,
  p_tenant_id       uuid,
  p_allocation_id   uuid,
  p_amount          numeric default null,
  p_reason          text default null,
  p_idempotency_key text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_refusal jsonb := internal.points_refusal(p_amount);
  v_hash text := internal.request_hash(jsonb_build_object(
    'reverse', p_allocation_id, 'amount', trim_scale(p_amount), 'reason', p_reason));
  v_pool numeric;
  v_available numeric;
  v_allocation public.allocation_logs;
  v_bill public.platform_billing_logs;
  v_taken record;  -- of the allocation, up to this time
  v_id uuid;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif p_amount is not null and v_refusal is not null then
    perform internal.refuse(v_refusal ->> 'code', v_refusal ->> 'detail');
  end if;

  v_pool := internal.locked_pool(p_tenant_id);
  v_bill := internal.billed_before(p_tenant_id, p_idempotency_key, v_hash);
  select l.* into v_allocation from public.allocation_logs as l where l.tenant_id = p_tenant_id and l.id = p_allocation_id;
  if v_allocation.id is null then
    perform internal.refuse('allocation_not_found', format('allocation_id: %s', p_allocation_id));
  end if;

  if v_bill.id is null then
    v_available := least(v_allocation.amount - v_allocation.reversed_amount - v_allocation.expired_amount, v_pool);
    if v_available = 0 or p_amount > v_available then
      perform internal.refuse('not_reversible', format('amount: %s of %s can be taken back',
        internal.points_text(v_available), internal.points_text(v_allocation.amount)));
    end if;
    v_id := internal.uuidv7();
    perform internal.bill_tenants(array[row(
      p_tenant_id, v_id, -coalesce(p_amount, v_available), 'REVERSAL', p_allocation_id, p_user_id, v_actor, p_reason,
      p_idempotency_key, v_hash, p_request_id)::internal.tenant_bill]);
    update public.allocation_logs as l
       set reversed_amount = l.reversed_amount + coalesce(p_amount, v_available), updated_at = internal.clock(),
           status = case when l.reversed_amount + coalesce(p_amount, v_available) + l.expired_amount = l.amount then 'REVOKED'
                         else l.status end
     where l.tenant_id = p_tenant_id and l.id = p_allocation_id;
    select l.* into v_bill from public.platform_billing_logs as l where l.tenant_id = p_tenant_id and l.id = v_id;
  end if;

  -- More may have been taken since; the rows' ids are in the order in which the pool was locked.
  select coalesce(-sum(b.amount) filter (where b.transaction_type = 'REVERSAL'), 0) as reversed,
         coalesce(-sum(b.amount) filter (where b.transaction_type = 'EXPIRY'), 0) as expired
    into v_taken
    from public.platform_billing_logs as b
   where b.tenant_id = p_tenant_id and b.allocation_id = p_allocation_id and b.id <= v_bill.id and b.balance_after is not null;

  return jsonb_build_object(
      'success', true, 'tenant_id', p_tenant_id, 'allocation_log_id', p_allocation_id,
      'amount_reversed', internal.points_text(-v_bill.amount), 'reversed_in_all', internal.points_text(v_taken.reversed),
      'status', case when v_taken.reversed + v_taken.expired = v_allocation.amount then 'REVOKED'
                     when v_taken.expired > 0 then 'EXPIRED' else 'COMPLETED' end,
      'new_balance', internal.points_text(v_bill.balance_after), 'platform_log_id', v_bill.id,
      'reason', v_bill.reference_note)
    || case when v_id is null then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/revoke_recognition.sql

-- Takes a recognition back: what each recipient got goes from their wallet to where it came from, all of it or nothing.
-- Wallets are permanent unless the tenant's settings say otherwise: then its managers may revoke what brought points, else only
-- an administrator of the platform, or a program for one, who names the tenant. Praise without points its managers may always.
-- Returns {recognition_id, status, points, returned_to, reason, revoked_at}.
--
-- Replay:  what is revoked already is answered as it was, with "replayed".
-- Locks:   the recognition; then the accounts and the rows that tell of them.
-- Refuses: reason_required, invalid_body, invalid_amount, forbidden, recognition_not_found, not_reversible (wallets are
--          permanent, or one of them does not hold its part any more).

create or replace function public.revoke_recognition(
  p_user_id        uuid,
  p_recognition_id uuid,
  p_reason         text,
  p_tenant_id      uuid default null,
  p_actor          text default null,
  p_request_id     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_reason text := trim(p_reason);
  v_tenant_id uuid := p_tenant_id;
  v_administers boolean;
  v_member public.tenant_members;
  v_actor text;
  v_given public.recognitions;
  v_moves internal.tenant_movement[];
  v_replayed boolean;
begin
  if coalesce(v_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif length(v_reason) > 1000 then
    perform internal.refuse('invalid_body', 'reason: must have at most 1000 characters');
  end if;

  v_administers := p_user_id is null or p_tenant_id is not null and exists (
    select from public.system_admins as s where s.id = p_user_id and s.is_active);
  if v_administers then
    if p_tenant_id is null then
      perform internal.refuse('invalid_body', 'tenant_id: must be named');
    end if;
    v_actor := internal.actor(p_user_id, p_actor);
    perform internal.act_for(array[p_tenant_id]);
  else
    v_member := internal.membership(p_user_id, p_tenant_id);
    if v_member.role <> 'tenant_manager' then
      perform internal.refuse('forbidden', 'This is open to the tenant''s managers only.');
    end if;
    v_tenant_id := v_member.tenant_id;
    v_actor := p_user_id::text;
  end if;

  select r.* into v_given from public.recognitions as r where r.tenant_id = v_tenant_id and r.id = p_recognition_id for update;
  if v_given.id is null then
    perform internal.refuse('recognition_not_found');
  end if;
  v_replayed := v_given.status = 'revoked';
  if not v_replayed then
    if v_given.points > 0 and not v_administers and (select t.wallets_permanent from public.tenants as t where t.id = v_tenant_id) then
      perform internal.refuse('not_reversible', 'Wallets are permanent here: an administrator of the platform must revoke this.');
    end if;

    v_moves := array(
      select internal.tenant_move(
               v_tenant_id, 'tenant.wallet:' || r.user_id,
               case v_given.funded_by when 'pool' then 'tenant.pool'
                                      when 'budget' then 'tenant.budget:' || v_given.department_id
                                      else 'tenant.' || v_given.funded_by || ':' || v_given.from_user_id end,
               r.points, 'reversal', 'recognition', v_given.id, p_wallet_source => 'reversal', p_description => v_reason,
               p_created_by => p_user_id)
        from public.recognition_recipients as r
       where r.tenant_id = v_tenant_id and r.recognition_id = v_given.id and r.points > 0
       order by r.place);
    if cardinality(v_moves) > 0 then
      begin
        if exists (select from internal.move_tenant_points(v_moves) as o where o.outcome <> 'posted') then
          perform internal.refuse('not_reversible', 'A wallet does not hold these points any more.');
        end if;
      exception when numeric_value_out_of_range then
        perform internal.refuse('invalid_amount', 'recognition_id: where its points came from there is no room for them');
      end;
      -- What comes back to the pool returns to the lots that it was of, and some may have ended meanwhile.
      update public.tenants as t set allocations_due_at = v_now
       where v_given.funded_by = 'pool' and t.id = v_tenant_id;
    end if;

    update public.recognitions as r
       set status = 'revoked', revoked_at = v_now, revoked_by = v_actor, revoked_reason = v_reason, updated_at = v_now
     where r.tenant_id = v_tenant_id and r.id = v_given.id
    returning r.* into v_given;
    perform internal.audit(v_actor, 'revoke_recognition', 'recognition', v_given.id::text, v_reason,
      '{"status": "active"}', jsonb_build_object('status', 'revoked', 'tenant_id', v_tenant_id, 'points', v_given.points), p_request_id);
  end if;

  return jsonb_build_object(
    'recognition_id', v_given.id, 'status', v_given.status, 'points', internal.points_text(v_given.points),
    'returned_to', v_given.funded_by, 'reason', v_given.revoked_reason, 'revoked_at', v_given.revoked_at)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

-- sql/60_tenants/reward_json.sql

-- A reward as the addresses show it.

create or replace function internal.reward_json(p_reward public.rewards)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'reward_id', p_reward.id, 'name', p_reward.name, 'description', p_reward.description,
    'points_cost', internal.points_text(p_reward.points_cost), 'stock', p_reward.stock, 'is_active', p_reward.is_active);
end
$$;

-- sql/60_tenants/rewards_catalogue.sql

-- What a member can redeem: {tenant_id, redemptions_paused, balance, rewards}, the cheapest first. A manager sees what is
-- not on offer too.
--
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.rewards_catalogue(p_user_id uuid, p_tenant_id uuid default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_member public.tenant_members := internal.membership(p_user_id, p_tenant_id);
begin
  return jsonb_build_object(
    'tenant_id', v_member.tenant_id,
    'redemptions_paused', (select t.redemptions_paused from public.tenants as t where t.id = v_member.tenant_id),
    'balance', internal.points_text(coalesce((
      select w.balance from public.wallets as w where w.tenant_id = v_member.tenant_id and w.user_id = p_user_id), 0)),
    'rewards', coalesce((
      select jsonb_agg(internal.reward_json(r) order by r.points_cost, r.name, r.id)
        from public.rewards as r
       where r.tenant_id = v_member.tenant_id
         and (r.is_active or v_member.role in ('tenant_manager', 'hr_admin'))), '[]'));
end
$$;

-- sql/60_tenants/set_department.sql

-- Adds a department to a tenant, or changes one: what is null stays as it is, and `no_cap` takes the monthly cap away. Its
-- tenant's managers', an administrator's or a program's. Returns the department.
--
-- Replay:  a change made twice is one; a second new one of the same name is refused.
-- Locks:   the department's row.
-- Refuses: forbidden, invalid_body, invalid_amount, tenant_not_found, department_not_found.

create or replace function public.set_department(
  p_user_id       uuid,
  p_department_id uuid default null,
  p_name          text default null,
  p_monthly_cap   numeric default null,
  p_no_cap        boolean default false,
  p_tenant_id     uuid default null,
  p_reason        text default null,
  p_actor         text default null,
  p_request_id    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_who record := internal.managing(p_user_id, p_tenant_id, p_actor);
  v_before public.departments;
  v_after public.departments;
begin
  if p_name !~ '\S' or p_department_id is null and p_name is null then
    perform internal.refuse('invalid_body', 'name: must be a name');
  elsif p_monthly_cap < 0 or p_monthly_cap > 9999999999999.99 or scale(trim_scale(p_monthly_cap)) > 2 then
    perform internal.refuse('invalid_amount', 'monthly_cap: must not be below zero, with at most two decimal places');
  elsif p_no_cap and p_monthly_cap is not null then
    perform internal.refuse('invalid_body', 'monthly_cap: either one or none');
  end if;

  begin
    if p_department_id is null then
      insert into public.departments as d (tenant_id, name, monthly_cap)
      values (v_who.tenant_id, p_name, p_monthly_cap)
      returning d.* into v_after;
    else
      select d.* into v_before
        from public.departments as d where d.tenant_id = v_who.tenant_id and d.id = p_department_id for update;
      if v_before.id is null then
        perform internal.refuse('department_not_found', format('department_id: %s', p_department_id));
      end if;
      update public.departments as d
         set name        = coalesce(p_name, d.name),
             monthly_cap = case when not coalesce(p_no_cap, false) then coalesce(p_monthly_cap, d.monthly_cap) end
       where d.tenant_id = v_who.tenant_id and d.id = p_department_id
      returning d.* into v_after;
    end if;
  exception when unique_violation then
    perform internal.refuse('invalid_body', 'name: there is another department of this name');
  end;

  perform internal.audit(
    v_who.actor, 'department.set', 'department', v_after.id::text, p_reason,
    case when v_before.id is not null then internal.department_json(v_before) end, internal.department_json(v_after), p_request_id);
  return internal.department_json(v_after);
end
$$;

-- sql/60_tenants/set_member.sql

-- Takes somebody into a tenant, by user id or e-mail address, or changes what they are there: what is null stays as it is.
-- Its tenant's managers', an administrator's or a program's; nobody changes what they are themselves, and only a
-- tenant_manager or an administrator makes tenant_managers, or changes one. What makes an administrator of the platform
-- is elsewhere. Returns the membership.
--
-- Replay:  a change made twice is one.
-- Locks:   the member's row.
-- Refuses: forbidden, invalid_body, tenant_not_found, user_not_found, own_event, department_not_found.

create or replace function public.set_member(
  p_user_id       uuid,
  p_account       text,
  p_role          text default null,
  p_department_id uuid default null,
  p_no_department boolean default false,
  p_display_name  text default null,
  p_is_active     boolean default null,
  p_tenant_id     uuid default null,
  p_reason        text default null,
  p_actor         text default null,
  p_request_id    text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_who record := internal.managing(p_user_id, p_tenant_id, p_actor);
  v_user_id uuid := internal.user_of_account(p_account);
  v_before public.tenant_members;
  v_after public.tenant_members;
begin
  if p_role not in ('tenant_manager', 'hr_admin', 'tenant_lead', 'dept_lead', 'manager', 'employee') then
    perform internal.refuse('invalid_body', 'role: must be a role of members');
  elsif p_no_department and p_department_id is not null then
    perform internal.refuse('invalid_body', 'department_id: either one or none');
  elsif v_user_id = p_user_id then
    perform internal.refuse('own_event', 'account: nobody changes what they are themselves');
  elsif p_department_id is not null
        and not exists (select from public.departments as d where d.tenant_id = v_who.tenant_id and d.id = p_department_id) then
    perform internal.refuse('department_not_found', format('department_id: %s', p_department_id));
  end if;

  -- Made first and locked, so that of two at once the second sees what the first made of it.
  insert into public.tenant_members as m (tenant_id, user_id)
  values (v_who.tenant_id, v_user_id)
  on conflict (tenant_id, user_id) do nothing;
  if not found then
    select m.* into v_before
      from public.tenant_members as m where m.tenant_id = v_who.tenant_id and m.user_id = v_user_id for update;
  end if;
  if v_who.role = 'hr_admin' and 'tenant_manager' in (p_role, v_before.role) then
    perform internal.refuse('forbidden', 'Only a tenant_manager or an administrator makes tenant_managers, or changes one.');
  end if;
  update public.tenant_members as m
     set role          = coalesce(p_role, m.role),
         department_id = case when not coalesce(p_no_department, false) then coalesce(p_department_id, m.department_id) end,
         display_name  = coalesce(p_display_name, m.display_name),
         is_active     = coalesce(p_is_active, m.is_active),
         updated_at    = internal.clock()
   where m.tenant_id = v_who.tenant_id and m.user_id = v_user_id
  returning m.* into v_after;

  perform internal.audit(
    v_who.actor, 'member.set', 'user', v_user_id::text, p_reason,
    case when v_before.user_id is not null then internal.member_json(v_before) end, internal.member_json(v_after), p_request_id);
  return internal.member_json(v_after);
end
$$;

-- sql/60_tenants/set_reward.sql

-- Puts a reward on offer, or changes one: what is null stays as it is. `stock` is how many there are now; `unlimited` takes
-- the end from it. Its tenant's managers', an administrator's or a program's. Returns the reward and its tenant_id.
--
-- Replay:  a change made twice is one; without an id there is a new reward every time.
-- Locks:   the reward's row.
-- Refuses: forbidden, invalid_body, invalid_amount, tenant_not_found, reward_not_found.

create or replace function public.set_reward(
  p_user_id     uuid,
  p_reward_id   uuid default null,
  p_name        text default null,
  p_points_cost numeric default null,
  p_description text default null,
  p_stock       int default null,
  p_unlimited   boolean default false,
  p_is_active   boolean default null,
  p_tenant_id   uuid default null,
  p_reason      text default null,
  p_actor       text default null,
  p_request_id  text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_who record := internal.managing(p_user_id, p_tenant_id, p_actor);
  v_before public.rewards;
  v_after public.rewards;
begin
  if p_points_cost <= 0 or p_points_cost > 9999999999999.99 or scale(trim_scale(p_points_cost)) > 2 then
    perform internal.refuse('invalid_amount', 'points_cost: must be greater than zero, with at most two decimal places');
  elsif p_stock < 0 then
    perform internal.refuse('invalid_amount', 'stock: must not be below zero');
  elsif p_unlimited and p_stock is not null then
    perform internal.refuse('invalid_body', 'stock: what is unlimited has none');
  elsif p_name !~ '\S' or p_reward_id is null and p_name is null then
    perform internal.refuse('invalid_body', 'name: must be a name');
  elsif p_reward_id is null and p_points_cost is null then
    perform internal.refuse('invalid_body', 'points_cost: must say what it costs');
  end if;

  if p_reward_id is null then
    insert into public.rewards as r (tenant_id, name, description, points_cost, stock, is_active)
    values (v_who.tenant_id, p_name, p_description, p_points_cost, p_stock, coalesce(p_is_active, true))
    returning r.* into v_after;
  else
    select r.* into v_before from public.rewards as r where r.tenant_id = v_who.tenant_id and r.id = p_reward_id for update;
    if v_before.id is null then
      perform internal.refuse('reward_not_found', format('reward_id: %s', p_reward_id));
    end if;
    update public.rewards as r
       set name        = coalesce(p_name, r.name),
           description = coalesce(p_description, r.description),
           points_cost = coalesce(p_points_cost, r.points_cost),
           stock       = case when not coalesce(p_unlimited, false) then coalesce(p_stock, r.stock) end,
           is_active   = coalesce(p_is_active, r.is_active),
           updated_at  = internal.clock()
     where r.tenant_id = v_who.tenant_id and r.id = p_reward_id
    returning r.* into v_after;
  end if;
  perform internal.audit(
    v_who.actor, 'reward.set', 'reward', v_after.id::text, p_reason,
    case when v_before.id is not null then internal.reward_json(v_before) end,
    internal.reward_json(v_after) || jsonb_build_object('tenant_id', v_who.tenant_id), p_request_id);
  return internal.reward_json(v_after) || jsonb_build_object('tenant_id', v_who.tenant_id);
end
$$;

-- sql/60_tenants/tenant_allocation_stats.sql

-- What a tenant has to give, as its people are shown it, with the budget and the wallet of whoever looks. Members see their
-- own tenant; an administrator and a program name one.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden (no member), invalid_body (several tenants, or none named), tenant_not_found.

create or replace function public.tenant_allocation_stats(p_user_id uuid, p_tenant_id uuid default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_named boolean := p_tenant_id is not null;
  v_member public.tenant_members;
  v_tenant public.tenants;
  v_wallet numeric(15, 2);
  v_status text;
begin
  if p_user_id is null and not v_named then
    perform internal.refuse('invalid_body', 'tenant_id: a program must name the tenant');
  elsif p_user_id is null
     or v_named and exists (select from public.system_admins as a where a.id = p_user_id and a.is_active) then
    perform internal.act_for(array[p_tenant_id]);
    v_member.tenant_id := p_tenant_id;
  else
    v_member := internal.membership(p_user_id, p_tenant_id);
  end if;

  select t.* into v_tenant from public.tenants as t where t.id = v_member.tenant_id;
  if v_tenant.id is null then
    perform internal.refuse('tenant_not_found');
  end if;
  select w.balance into v_wallet from public.wallets as w where w.tenant_id = v_tenant.id and w.user_id = v_member.user_id;
  v_status := case when v_tenant.points_allocation_balance <= 0 then 'empty'
                   when v_tenant.points_allocation_balance < v_tenant.low_balance_threshold then 'low'
                   else 'ready' end;

  return jsonb_build_object(
    'tenant_id', v_tenant.id,
    'tenant_name', v_tenant.name,
    'points_allocation_balance', internal.points_text(v_tenant.points_allocation_balance),
    'currency', v_tenant.currency,
    'currency_label', v_tenant.currency_label,
    'status', v_status,
    'message', case v_status
       when 'empty' then 'No points available. Please contact Platform Admin.'
       when 'low' then format('The balance is low: %s %s left. Ask Platform Admin for more in time.',
                              internal.points_text(v_tenant.points_allocation_balance), v_tenant.currency_label)
       else format('Ready to give: %s %s available.', internal.points_text(v_tenant.points_allocation_balance), v_tenant.currency_label) end,
    'low_balance_threshold', internal.points_text(v_tenant.low_balance_threshold),
    'allocation_mode', v_tenant.allocation_mode,
    'redemptions_paused', v_tenant.redemptions_paused,
    'role', v_member.role,
    'lead_distribution_balance', internal.points_text(v_member.lead_distribution_balance),
    'wallet_balance', case when v_member.user_id is not null then internal.points_text(coalesce(v_wallet, 0)) end);
end
$$;

-- sql/60_tenants/tenant_balances_below_zero.sql

-- What must not be: anything of a tenant that is below zero. Always empty, because a CHECK forbids each; critical if not.

create or replace view public.tenant_balances_below_zero
with (security_invoker = true)
as
select t.id as tenant_id, 'pool' as what, t.id as owner_id, t.points_allocation_balance as balance
  from public.tenants as t where t.points_allocation_balance < 0
union all
select m.tenant_id, 'lead', m.user_id, m.lead_distribution_balance from public.tenant_members as m where m.lead_distribution_balance < 0
union all
select d.tenant_id, 'department', d.id, d.budget_balance from public.departments as d where d.budget_balance < 0
union all
select w.tenant_id, 'wallet', w.user_id, w.balance from public.wallets as w where w.balance < 0;

-- sql/60_tenants/tenant_discrepancies.sql

-- Where tenants disagree with the ledger: the part of ledger.discrepancies that is theirs.

create or replace view internal.tenant_discrepancies
with (security_invoker = true)
as
with kept as (
  select t.id as tenant_id, 'tenant.pool' as account, t.points_allocation_balance as points from public.tenants as t
  union all
  select m.tenant_id, 'tenant.lead:' || m.user_id, m.lead_distribution_balance from public.tenant_members as m
  union all
  select d.tenant_id, 'tenant.budget:' || d.id, d.budget_balance from public.departments as d
  union all
  select w.tenant_id, 'tenant.wallet:' || w.user_id, w.balance from public.wallets as w
)
select 'I3' as invariant, coalesce(a.book_id, k.tenant_id) as book_id, coalesce(a.account, k.account) as subject,
       (coalesce(a.balance, 0) / 100.0)::numeric(15, 2)::text as expected, coalesce(k.points, 0)::numeric(15, 2)::text as actual
  from (select x.book_id, x.account, x.balance from ledger.accounts as x where x.asset = 'tenant_points') as a
  full join kept as k on k.tenant_id = a.book_id and k.account = a.account
 where coalesce(a.balance, 0) <> coalesce(k.points, 0) * 100
union all
-- A wallet's statement is what it holds and what it had and spent in all, and each entry a transfer.
select 'I3', w.tenant_id, 'statement of the wallet of ' || w.user_id,
       format('%s of %s less %s', w.balance, w.lifetime_earned, w.lifetime_spent),
       format('%s of %s less %s', coalesce(l.earned - l.spent, 0), coalesce(l.earned, 0), coalesce(l.spent, 0))
  from public.wallets as w
  left join (select x.tenant_id, x.user_id, coalesce(sum(x.points) filter (where x.transaction_type = 'credit'), 0) as earned,
                    coalesce(sum(x.points) filter (where x.transaction_type = 'debit'), 0) as spent
               from public.wallet_ledger as x group by x.tenant_id, x.user_id) as l on l.tenant_id = w.tenant_id and l.user_id = w.user_id
 where w.lifetime_earned <> coalesce(l.earned, 0) or w.lifetime_spent <> coalesce(l.spent, 0)
    or w.balance <> coalesce(l.earned - l.spent, 0)
union all
select 'I2', l.tenant_id, 'wallet entry ' || l.id, 'a transfer', 'none'
  from public.wallet_ledger as l
 where not exists (select from ledger.transfers as t where t.book_id = l.tenant_id and t.transfer_id = l.id and t.amount = l.points * 100)
union all
-- What an allocation's row says was taken of it by name is what the transfers took.
select 'I3', l.tenant_id, 'taken of allocation ' || l.id, format('reversed %s, expired %s', coalesce(t.reversed, 0), coalesce(t.expired, 0)),
       format('reversed %s, expired %s', l.reversed_amount, l.expired_amount)
  from public.allocation_logs as l
  left join (select b.tenant_id, b.allocation_id, sum(x.amount) filter (where x.kind = 'reversal') / 100.0 as reversed,
                    sum(x.amount) filter (where x.kind = 'expiry') / 100.0 as expired
               from public.platform_billing_logs as b
               join ledger.transfers as x on x.book_id = b.tenant_id and x.transfer_id = b.id and x.from_account = 'tenant.pool'
              where b.allocation_id is not null
              group by b.tenant_id, b.allocation_id) as t on t.tenant_id = l.tenant_id and t.allocation_id = l.id
 where l.reversed_amount <> coalesce(t.reversed, 0) or l.expired_amount <> coalesce(t.expired, 0)
union all
-- What the platform's trail says stood in a pool afterwards, it moved. A row written by hand says nothing of that.
select 'I2', b.tenant_id, 'platform billing ' || b.id, 'a transfer of ' || b.amount, 'none'
  from public.platform_billing_logs as b
 where b.balance_after is not null and b.amount <> 0
   and not exists (select from ledger.transfers as t
                    where t.book_id = b.tenant_id and t.transfer_id = b.id and t.amount = abs(b.amount) * 100
                      and case when b.amount > 0 then t.to_account else t.from_account end = 'tenant.pool')
union all
select 'I2', d.tenant_id, 'delegation ' || d.id, 'a transfer of ' || d.amount, 'none'
  from public.lead_delegations as d
 where not exists (select from ledger.transfers as t
                    where t.book_id = d.tenant_id and t.transfer_id = d.id and t.amount = abs(d.amount) * 100
                      and case when d.amount > 0 then t.to_account else t.from_account end = 'tenant.lead:' || d.lead_user_id)
union all
-- A recognition is what its recipients got, and that is in their wallets; once it is revoked, all of it was taken back.
select 'I2', r.tenant_id, 'recognition ' || r.id, format('%s, back %s', r.points, case r.status when 'revoked' then r.points else 0 end),
       format('%s, back %s', coalesce(g.points, 0), coalesce(b.points, 0))
  from public.recognitions as r
  left join (select x.tenant_id, x.recognition_id, sum(x.points) as said, coalesce(sum(t.amount), 0) / 100.0 as points
               from public.recognition_recipients as x
               left join ledger.transfers as t
                      on t.book_id = x.tenant_id and t.transfer_id = x.entry_id and t.to_account = 'tenant.wallet:' || x.user_id
              group by x.tenant_id, x.recognition_id) as g on g.tenant_id = r.tenant_id and g.recognition_id = r.id
  left join (select l.tenant_id, l.reference_id, sum(l.points) as points
               from public.wallet_ledger as l
              where l.reference_type = 'recognition' and l.source = 'reversal' and l.transaction_type = 'debit'
              group by l.tenant_id, l.reference_id) as b on b.tenant_id = r.tenant_id and b.reference_id = r.id
 where r.points <> coalesce(g.points, 0) or r.points <> coalesce(g.said, 0)
    or case r.status when 'revoked' then r.points else 0 end <> coalesce(b.points, 0)
union all
-- A redemption took what it says, and gave it back where it was refunded.
select 'I2', x.tenant_id, 'redemption ' || x.id, format('%s, %s', x.points, x.status), format('%s, back %s', t.amount / 100.0, b.amount / 100.0)
  from public.reward_redemptions as x
  left join ledger.transfers as t on t.book_id = x.tenant_id and t.transfer_id = x.entry_id and t.from_account = 'tenant.wallet:' || x.user_id
  left join ledger.transfers as b on b.book_id = x.tenant_id and b.transfer_id = x.id and b.to_account = 'tenant.wallet:' || x.user_id
 where t.amount is distinct from x.points * 100
    or b.amount is distinct from case x.status when 'refunded' then (x.points * 100)::bigint end
union all
-- What moved, stands where it is told of: nobody took its row away, or changed what it says.
select 'I2', t.book_id, 'transfer ' || t.transfer_id, format('allocation %s of %s', t.source_id, t.amount / 100.0), 'none'
  from ledger.transfers as t
 where t.kind in ('credit_injection', 'refill') and t.to_account = 'tenant.pool'
   and not exists (select from public.allocation_logs as l
                    where l.tenant_id = t.book_id and l.id = t.source_id and l.amount = t.amount / 100.0)
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'delegation ' || t.transfer_id, 'none'
  from ledger.transfers as t
 where t.kind in ('delegation', 'recall') and t.source_type = 'lead_delegation'
   and not exists (select from public.lead_delegations as d where d.tenant_id = t.book_id and d.id = t.transfer_id)
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'recognition ' || t.source_id, 'none'
  from ledger.transfers as t
 where t.kind = 'recognition' and starts_with(t.to_account, 'tenant.wallet:')
   and not exists (select from public.recognitions as r
                    where r.tenant_id = t.book_id and r.id = t.source_id and starts_with(t.from_account, 'tenant.' || r.funded_by))
union all
select 'I2', t.book_id, 'transfer ' || t.transfer_id, 'redemption ' || t.source_id, 'none'
  from ledger.transfers as t
 where t.kind = 'redemption' and t.source_type = 'reward_redemption'
   and not exists (select from public.reward_redemptions as x where x.tenant_id = t.book_id and x.id = t.source_id);

-- sql/60_tenants/tenant_large_allocations.sql

-- Allocations of the last day above what allocation_limits.large_allocation_above says, whatever the tenant's currency; none
-- where that is null. The database's setting tallybook.large_allocation names another threshold for who looks:
-- alter database postgres set tallybook.large_allocation = '500000'.

create or replace view public.tenant_large_allocations
with (security_invoker = true)
as
select a.tenant_id, t.name, a.id as allocation_id, a.amount, a.currency, a.status, a.allocated_by, a.actor, a.reference_note, a.created_at
  from public.allocation_logs as a
  join public.tenants as t on t.id = a.tenant_id
 where a.created_at > (select internal.clock()) - interval '1 day'
   and a.amount > coalesce(nullif(current_setting('tallybook.large_allocation', true), '')::numeric,
                           (select l.large_allocation_above from public.allocation_limits as l));

-- sql/60_tenants/tenant_log_page.sql

-- A page of one of the three logs of tenants: {items, next_cursor}, and total where it is wanted: null beyond 10,000.
-- A cursor leads on from where a page ended, whatever came meanwhile: the sort, the last row's time or amount, and its ids;
-- null at the end. The end date is not included. Without a tenant: of all of them.
-- The query is put together from what is asked, so that each gets the index of its own order. Only words from here go into
-- it; what a caller says goes into its parameters.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function internal.tenant_log_page(
  p_log        text,  -- 'allocation_logs' | 'platform_billing_logs' | 'wallet_ledger'
  p_tenant_id  uuid,
  p_status     text,  -- what the log calls its status or its type
  p_source     text,
  p_member_id  uuid,
  p_search     text,
  p_amount_min numeric,
  p_amount_max numeric,
  p_start_date timestamptz,
  p_end_date   timestamptz,
  p_sort       text,
  p_direction  text,
  p_page       int,
  p_limit      int,
  p_cursor     text,
  p_with_total boolean
)
returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_total_max constant int := 10000;
  v_is_wallet boolean := p_log = 'wallet_ledger';
  v_by_amount boolean := coalesce(p_sort, 'created_at') = 'amount';
  v_descends boolean := coalesce(p_direction, 'desc') = 'desc';
  v_limit int := coalesce(p_limit, 25);
  v_page int := coalesce(p_page, 1);
  v_amount text := case p_log when 'wallet_ledger' then 'points' else 'amount' end;
  v_key text;    -- what the page is in the order of
  v_where text;
  v_item text;
  v_bytes bytea;
  v_mark bytea;  -- two letters, so that a cursor leads on in its own order only
  v_last bigint;
  v_named uuid[];
  v_answer jsonb;
  v_total int;
begin
  if coalesce(p_sort, 'created_at') not in ('created_at', 'amount') then
    perform internal.refuse('invalid_body', 'sort: must be created_at or amount');
  elsif coalesce(p_direction, 'desc') not in ('asc', 'desc') then
    perform internal.refuse('invalid_body', 'direction: must be asc or desc');
  elsif v_limit not between 1 and 10000 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 10000');
  elsif v_page < 1 or (v_page - 1)::bigint * v_limit > v_total_max then
    perform internal.refuse('invalid_body', 'page: lies beyond the 10000th row; go on by next_cursor');
  elsif p_cursor is not null and v_page > 1 then
    perform internal.refuse('invalid_body', 'cursor: says already where the page begins');
  elsif v_by_amount and v_is_wallet and p_tenant_id is null then
    perform internal.refuse('invalid_body', 'sort: wallets are sorted by amount for one tenant at a time');
  end if;

  v_mark := convert_to(case when v_by_amount then 'a' else 'c' end || case when v_descends then 'd' else 'u' end, 'UTF8');
  if p_cursor is not null then
    if p_cursor ~ '^[A-Za-z0-9_-]{56}$' then
      v_bytes := decode(translate(p_cursor, '-_', '+/'), 'base64');
      v_last := ('x' || encode(substring(v_bytes from 3 for 8), 'hex'))::bit(64)::bigint;
    end if;
    if v_bytes is null or substring(v_bytes for 2) <> v_mark or v_last not between -9000000000000000 and 9000000000000000 then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave, in the same order');
    end if;
  end if;

  v_key := case when v_by_amount then 'x.' || v_amount else 'x.created_at' end;
  if p_search is not null then
    -- By name: of a tenant among all, of a person in one.
    if p_tenant_id is null then
      v_named := array(select t.id from public.tenants as t where strpos(lower(t.name), lower(p_search)) > 0);
    elsif v_is_wallet then
      v_named := array(
        select m.user_id from public.tenant_members as m
         where m.tenant_id = p_tenant_id and strpos(lower(m.display_name), lower(p_search)) > 0);
    end if;
  end if;

  v_where := concat_ws(' and ', 'true',
    case when p_tenant_id is not null then 'x.tenant_id = $1' end,
    case when p_status is not null then
      case p_log when 'allocation_logs' then 'x.status = $2' else 'x.transaction_type = $2' end end,
    case when p_source is not null then 'x.source = $3' end,
    case when p_member_id is not null then 'x.user_id = $4' end,
    case when p_search is not null then
      case when v_is_wallet then '(strpos(lower(x.description), lower($5)) > 0'
           else '(strpos(lower(concat_ws('' '', x.reference_note, x.actor)), lower($5)) > 0' end
      || case when p_tenant_id is null then ' or x.tenant_id = any ($6))'
              when v_is_wallet then ' or x.user_id = any ($6))' else ')' end end,
    case when p_amount_min is not null then format('x.%I >= $7', v_amount) end,
    case when p_amount_max is not null then format('x.%I <= $8', v_amount) end,
    case when p_start_date is not null then 'x.created_at >= $9' end,
    case when p_end_date is not null then 'x.created_at < $10' end);

  if coalesce(p_with_total, false) then
    execute format('select count(*) from (select from public.%I as x where %s limit $11) as c', p_log, v_where)
       into v_total
      using p_tenant_id, p_status, p_source, p_member_id, p_search, v_named, p_amount_min, p_amount_max, p_start_date, p_end_date,
            v_total_max + 1;
  end if;

  v_item := case p_log
    when 'allocation_logs' then
      '''allocated_by'', p.allocated_by, ''actor'', p.actor, ''amount'', internal.points_text(p.amount), ''currency'', p.currency,'
      || ' ''status'', p.status, ''reversed_amount'', internal.points_text(p.reversed_amount), ''reference_note'', p.reference_note,'
      || ' ''expires_at'', p.expires_at'
    when 'platform_billing_logs' then
      '''admin_id'', p.admin_id, ''actor'', p.actor, ''amount'', internal.points_text(p.amount), ''currency'', p.currency,'
      || ' ''transaction_type'', p.transaction_type, ''reference_note'', p.reference_note, ''allocation_id'', p.allocation_id'
    else
      '''wallet_id'', p.wallet_id, ''user_id'', p.user_id, ''transaction_type'', p.transaction_type, ''source'', p.source,'
      || ' ''points'', internal.points_text(p.points), ''balance_after'', internal.points_text(p.balance_after),'
      || ' ''reference_type'', p.reference_type, ''reference_id'', p.reference_id, ''description'', p.description,'
      || ' ''created_by'', p.created_by' end;

  execute format(
    $q$
    with page as materialized (
      select row_number() over (order by %1$s %2$s, x.id %2$s %3$s) as n, x.*
        from public.%4$I as x
       where %5$s %6$s
       order by %1$s %2$s, x.id %2$s %3$s
       limit $11 + 1 offset $12
    )
    select jsonb_build_object(
             'items', coalesce(jsonb_agg(jsonb_build_object(
                        'id', p.id, 'tenant_id', p.tenant_id, 'tenant_name', t.name, 'created_at', p.created_at, %7$s)
                        order by p.n) filter (where p.n <= $11 + $12), '[]'),
             'next_cursor', case when count(*) > $11 then
                translate(max(encode($13 || int8send(%8$s) || uuid_send(p.id) || uuid_send(%9$s), 'base64'))
                  filter (where p.n = $11 + $12), '+/', '-_') end)
      from page as p
      left join public.tenants as t on t.id = p.tenant_id
    $q$,
    v_key,
    case when v_descends then 'desc' else 'asc' end,
    -- What went from wallet to wallet has one id in both statements.
    case when v_is_wallet then case when v_descends then ', x.user_id desc' else ', x.user_id asc' end end,
    p_log,
    v_where,
    case when p_cursor is not null then
      format('and (%s, x.id%s) %s (%s, $15%s)', v_key, case when v_is_wallet then ', x.user_id' end,
             case when v_descends then '<' else '>' end,
             case when v_by_amount then '$17' else '$14' end,
             case when v_is_wallet then ', $16' end) end,
    v_item,
    case when v_by_amount then format('(p.%I * 100)::bigint', v_amount)
         else '(extract(epoch from p.created_at) * 1000000)::bigint' end,
    case when v_is_wallet then 'p.user_id' else '''00000000-0000-0000-0000-000000000000''::uuid' end)
     into v_answer
    using p_tenant_id, p_status, p_source, p_member_id, p_search, v_named, p_amount_min, p_amount_max, p_start_date, p_end_date,
          v_limit, (v_page - 1) * v_limit, v_mark, 'epoch'::timestamptz + v_last * interval '1 microsecond',
          encode(substring(v_bytes from 11 for 16), 'hex')::uuid, encode(substring(v_bytes from 27 for 16), 'hex')::uuid, v_last / 100.0;

  if coalesce(p_with_total, false) then
    v_answer := v_answer || jsonb_build_object('total', case when v_total <= v_total_max then v_total end);
  end if;
  return v_answer;
end
$$;

-- sql/60_tenants/tenant_move.sql

-- A movement of a tenant's points by the names of what is known of it.

create or replace function internal.tenant_move(
  p_tenant_id     uuid,
  p_from_account  text,
  p_to_account    text,
  p_amount        numeric,
  p_kind          text,
  p_source_type   text,
  p_source_id     uuid,
  p_id            uuid default null,
  p_wallet_source text default null,
  p_description   text default null,
  p_created_by    uuid default null,
  p_created_at    timestamptz default null
)
returns internal.tenant_movement
language plpgsql volatile
set search_path = ''
as $$
declare
  v_move internal.tenant_movement;
begin
  v_move.tenant_id := p_tenant_id;
  v_move.id := coalesce(p_id, internal.uuidv7());
  v_move.from_account := p_from_account;
  v_move.to_account := p_to_account;
  v_move.amount := p_amount;
  v_move.kind := p_kind;
  v_move.source_type := p_source_type;
  v_move.source_id := p_source_id;
  v_move.wallet_source := p_wallet_source;
  v_move.description := p_description;
  v_move.created_by := p_created_by;
  v_move.created_at := coalesce(p_created_at, internal.clock());
  return v_move;
end
$$;

-- sql/60_tenants/wallet.sql

-- What a member has and had: {tenant_id, user_id, balance, lifetime_earned, lifetime_spent, entries}, the last ten entries
-- of their statement, newest first.
--
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.wallet(p_user_id uuid, p_tenant_id uuid default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_tenant_id uuid := (internal.membership(p_user_id, p_tenant_id)).tenant_id;
  v_wallet public.wallets;
begin
  select w.* into v_wallet from public.wallets as w where w.tenant_id = v_tenant_id and w.user_id = p_user_id;
  return jsonb_build_object(
    'tenant_id', v_tenant_id, 'user_id', p_user_id,
    'balance', internal.points_text(coalesce(v_wallet.balance, 0)),
    'lifetime_earned', internal.points_text(coalesce(v_wallet.lifetime_earned, 0)),
    'lifetime_spent', internal.points_text(coalesce(v_wallet.lifetime_spent, 0)),
    'entries', coalesce((
      select jsonb_agg(jsonb_build_object(
               'id', l.id, 'transaction_type', l.transaction_type, 'source', l.source, 'points', internal.points_text(l.points),
               'balance_after', internal.points_text(l.balance_after), 'reference_type', l.reference_type,
               'reference_id', l.reference_id, 'description', l.description, 'created_by', l.created_by,
               'created_at', l.created_at) order by l.created_at desc, l.id desc)
        from (select x.* from public.wallet_ledger as x
               where x.tenant_id = v_tenant_id and x.user_id = p_user_id
               order by x.created_at desc, x.id desc
               limit 10) as l), '[]'));
end
$$;

-- sql/60_tenants/wallet_ledger_page.sql

-- A page of the statements of wallets, of all members or of one.
-- A manager sees their own tenant's, an administrator and a program one tenant's or everybody's.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: forbidden, tenant_not_found, invalid_body.

create or replace function public.wallet_ledger_page(
  p_user_id    uuid,
  p_tenant_id  uuid default null,
  p_type       text default null,
  p_source     text default null,
  p_member_id  uuid default null,
  p_search     text default null,
  p_amount_min numeric default null,
  p_amount_max numeric default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null,
  p_sort       text default 'created_at',
  p_direction  text default 'desc',
  p_page       int default null,
  p_limit      int default 25,
  p_cursor     text default null,
  p_with_total boolean default false
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := internal.managed_tenant(p_user_id, p_tenant_id);
begin
  if p_type not in ('credit', 'debit') then
    perform internal.refuse('invalid_body', 'type: must be credit or debit');
  elsif p_source not in ('hr_allocation', 'recognition', 'redemption', 'adjustment', 'expiry', 'reversal') then
    perform internal.refuse('invalid_body', 'source: must be hr_allocation, recognition, redemption, adjustment, expiry or reversal');
  end if;
  return internal.tenant_log_page(
    'wallet_ledger', v_tenant_id, p_type, p_source, p_member_id, p_search, p_amount_min, p_amount_max, p_start_date, p_end_date,
    p_sort, p_direction, p_page, p_limit, p_cursor, p_with_total);
end
$$;

-- sql/60_tenants/wallet_term.sql

-- How long points stay in a wallet under a tenant's policy; null: for ever.

create or replace function internal.wallet_term(p_policy text)
returns interval
language plpgsql immutable
set search_path = ''
as $$
begin
  return case p_policy when '90_days' then interval '90 days' when '180_days' then interval '180 days'
                       when '1_year' then interval '1 year' end;
end
$$;

-- sql/80_operations/00_tables.sql

-- Operating the whole. Runs once.

create table public.migration_audit (
  migration_name  text not null,
  environment     text not null default 'production',
  applied_by      text not null,
  approved_by     text,
  applied_at      timestamptz not null default internal.clock(),
  backup_taken    boolean not null default false,
  backup_location text,
  rollback_tested boolean not null default false,
  notes           text,
  primary key (migration_name, environment)
);

-- sql/80_operations/discrepancies.sql

-- Everything that does not agree, and must be empty: one row a fault, with the invariant it breaks (I1 to I6).
-- `tallybook verify`, the admin page, the canary's gate and every test read this.

create or replace view ledger.discrepancies
with (security_invoker = true)
as
select d.invariant, d.book_id, d.subject, d.expected, d.actual from ledger.account_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.points_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.coupon_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.credit_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.usage_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.credit_reservation_discrepancies as d
union all
select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.tenant_discrepancies as d;

-- sql/80_operations/readiness.sql

-- What /readyz asks: is the database there, and is its schema the one this version of the library was written for?

create or replace function public.readiness()
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return jsonb_build_object('schema', '0.1', 'time', internal.clock());
end
$$;

-- sql/80_operations/record_migration.sql

-- Writes down that a migration was applied to an environment, by whom, and whether there is a backup.
--
-- Replay:  the same migration in the same environment keeps its first record.
-- Locks:   the record.
-- Refuses: nothing.

create or replace function public.record_migration(
  p_migration_name  text,
  p_applied_by      text,
  p_environment     text default 'production',
  p_backup_taken    boolean default false,
  p_notes           text default null,
  p_approved_by     text default null,
  p_backup_location text default null
)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into public.migration_audit (migration_name, applied_by, environment, backup_taken, notes, approved_by, backup_location)
  values (p_migration_name, p_applied_by, p_environment, p_backup_taken, p_notes, p_approved_by, p_backup_location)
  on conflict (migration_name, environment) do nothing;
end
$$;

-- sql/80_operations/report_allocations.sql

-- The latest allocations, of one tenant or of all.

create or replace function public.report_allocations(p_tenant_id uuid default null, p_limit int default 100)
returns table (created_at timestamptz, tenant text, amount numeric, currency text, status text, reversed_amount numeric, actor text, reference_note text, id uuid)
language sql stable
set search_path = ''
as $$
  select a.created_at, t.name, a.amount, a.currency, a.status, a.reversed_amount, a.actor, a.reference_note, a.id
    from (select x.* from public.allocation_logs as x where p_tenant_id is null or x.tenant_id = p_tenant_id
           order by x.created_at desc, x.id desc limit p_limit) as a
    left join public.tenants as t on t.id = a.tenant_id
   order by a.created_at desc, a.id desc
$$;

-- sql/80_operations/report_allocations_by_day.sql

-- How much was allocated on each day in UTC, the latest first.

create or replace function public.report_allocations_by_day(p_since interval default '30 days')
returns table (date date, allocation_count bigint, total_allocated numeric, tenants_allocated_to bigint)
language sql stable
set search_path = ''
as $$
  select (a.created_at at time zone 'UTC')::date, count(*), sum(a.amount), count(distinct a.tenant_id)
    from public.allocation_logs as a
   where a.created_at >= internal.clock() - p_since
   group by 1
   order by 1 desc
$$;

-- sql/80_operations/report_allocations_by_week.sql

-- How much was allocated in each week in UTC, from Monday on, the latest first.

create or replace function public.report_allocations_by_week(p_since interval default '30 days')
returns table (week date, allocations bigint, total_points_allocated numeric, tenants_allocated_to bigint)
language sql stable
set search_path = ''
as $$
  select date_trunc('week', a.created_at at time zone 'UTC')::date, count(*), sum(a.amount), count(distinct a.tenant_id)
    from public.allocation_logs as a
   where a.created_at >= internal.clock() - p_since
   group by 1
   order by 1 desc
$$;

-- sql/80_operations/report_balance.sql

-- Why does a redemption fail though there should be points? One user's balance as cached and as the events say, and what
-- still waits or is held.

create or replace function public.report_balance(p_user_id uuid)
returns table (user_id uuid, cached bigint, actual bigint, pending bigint, pending_events bigint, in_review bigint, held bigint)
language sql stable
set search_path = ''
as $$
  select p_user_id, c.available_points,
         (select sum(e.points_delta) from public.points_events as e where e.user_id = p_user_id and e.validation_status = 'validated'),
         c.pending_points,
         (select count(*) from public.points_events as e where e.user_id = p_user_id and e.validation_status = 'pending'),
         (select count(*) from public.points_events as e where e.user_id = p_user_id and e.validation_status = 'pending_review'),
         coalesce(a.held, 0)
    from (values (p_user_id)) as u(user_id)
    left join public.user_points_cache as c on c.user_id = u.user_id
    left join ledger.accounts as a on a.book_id = u.user_id and a.account = 'points'
$$;

-- sql/80_operations/report_balance_audit.sql

-- Users whose cached balance is not the sum of their validated events; empty when all is well. Unlike the query that starts
-- from the cache, it finds users without a cached row.

create or replace function public.report_balance_audit()
returns table (user_id uuid, cached_points bigint, ledger_points bigint, discrepancy bigint)
language sql stable
set search_path = ''
as $$
  select coalesce(c.user_id, e.user_id), c.available_points, coalesce(e.points, 0),
         coalesce(c.available_points, 0) - coalesce(e.points, 0)
    from public.user_points_cache as c
    full join (
         select x.user_id, sum(x.points_delta) as points
           from public.points_events as x
          where x.validation_status = 'validated'
          group by x.user_id) as e on e.user_id = c.user_id
   where coalesce(c.available_points, 0) <> coalesce(e.points, 0)
   order by abs(coalesce(c.available_points, 0) - coalesce(e.points, 0)) desc
$$;

-- sql/80_operations/report_billing.sql

-- The latest of what came into tenants and was taken from them, of one tenant or of all.

create or replace function public.report_billing(p_tenant_id uuid default null, p_limit int default 100)
returns table (created_at timestamptz, tenant text, transaction_type text, amount numeric, currency text, actor text, reference_note text, id uuid)
language sql stable
set search_path = ''
as $$
  select b.created_at, t.name, b.transaction_type, b.amount, b.currency, b.actor, b.reference_note, b.id
    from (select x.* from public.platform_billing_logs as x where p_tenant_id is null or x.tenant_id = p_tenant_id
           order by x.created_at desc, x.id desc limit p_limit) as b
    left join public.tenants as t on t.id = b.tenant_id
   order by b.created_at desc, b.id desc
$$;

-- sql/80_operations/report_clawbacks.sql

-- What was taken back from tenants of late: clawbacks and reversals, the latest first.

create or replace function public.report_clawbacks(p_since interval default '1 month')
returns table (created_at timestamptz, tenant text, transaction_type text, amount numeric, actor text, reference_note text, allocation_id uuid, tenant_id uuid)
language sql stable
set search_path = ''
as $$
  select b.created_at, t.name, b.transaction_type, b.amount, b.actor, b.reference_note, b.allocation_id, b.tenant_id
    from public.platform_billing_logs as b
    left join public.tenants as t on t.id = b.tenant_id
   where b.created_at >= internal.clock() - p_since and b.transaction_type in ('CLAWBACK', 'REVERSAL')
   order by b.created_at desc, b.id desc
$$;

-- sql/80_operations/report_coupon_codes.sql

-- What must not be with coupons and their codes, each with how many there are: nothing but zeros when all is well.

create or replace function public.report_coupon_codes()
returns table (fault text, coupons bigint)
language sql stable
set search_path = ''
as $$
  select 'without a code hash', count(*) from public.coupons as c where c.code_hash is null
  union all
  select 'with a readable code', count(*) from public.coupons as c where c.plaintext_code is not null
  union all
  select 'sharing a code hash', coalesce(sum(d.coupons), 0)::bigint
    from (select count(*) as coupons from public.coupons as c group by c.code_hash having count(*) > 1) as d
  union all
  select 'paid by one event', coalesce(sum(d.coupons), 0)::bigint
    from (select count(*) as coupons from public.coupons as c group by c.points_event_id having count(*) > 1) as d
$$;

-- sql/80_operations/report_coupons_by_status.sql

-- The coupons issued of late by what became of them, and what they cost in points.

create or replace function public.report_coupons_by_status(p_since interval default '1 hour')
returns table (status text, count bigint, total_points bigint)
language sql stable
set search_path = ''
as $$
  select c.status, count(*), sum(c.issued_points_cost)
    from public.coupons as c
   where c.issued_at >= internal.clock() - p_since
   group by c.status
   order by c.status
$$;

-- sql/80_operations/report_credit_balances.sql

-- What users have by tier: their credits, all that ever came, and how many of them run low.

create or replace function public.report_credit_balances()
returns table (tier text, count bigint, balance numeric, allocated numeric, median_balance numeric, low bigint, owing bigint)
language sql stable
set search_path = ''
as $$
  select c.tier, count(*), sum(c.balance), sum(c.credits_allocated), percentile_disc(0.5) within group (order by c.balance),
         count(l.user_id), count(*) filter (where c.balance < 0)
    from public.user_credits as c
    left join public.credit_low_balances as l on l.user_id = c.user_id
   group by c.tier
   order by 2 desc, c.tier
$$;

-- sql/80_operations/report_credit_failure_spikes.sql

-- Which models fail more often than they did, the worst first.

create or replace function public.report_credit_failure_spikes()
returns table (provider text, model text, failures bigint, events bigint, hourly_mean numeric, times numeric, last_at timestamptz)
language sql stable
set search_path = ''
as $$
  select v.provider, v.model, v.failures, v.events, v.hourly_mean, v.times, v.last_at
    from public.credit_failure_spikes as v
   order by v.failures desc, v.model, v.provider
$$;

-- sql/80_operations/report_credit_low_balances.sql

-- Whose credits run low, the lowest first.

create or replace function public.report_credit_low_balances(p_limit int default 50)
returns table (user_id uuid, tier text, balance numeric, low_balance_below numeric, updated_at timestamptz)
language sql stable
set search_path = ''
as $$
  select v.user_id, v.tier, v.balance, v.low_balance_below, v.updated_at
    from public.credit_low_balances as v
   order by v.balance, v.user_id
   limit p_limit
$$;

-- sql/80_operations/report_credit_unusual_spending.sql

-- Who spent unusually much in the last 24 hours, the most first.

create or replace function public.report_credit_unusual_spending(p_limit int default 50)
returns table (user_id uuid, spent numeric, events bigint, daily_mean numeric, times numeric)
language sql stable
set search_path = ''
as $$
  select v.user_id, v.spent, v.events, v.daily_mean, v.times
    from public.credit_unusual_spending as v
   order by v.spent desc, v.user_id
   limit p_limit
$$;

-- sql/80_operations/report_credit_usage.sql

-- What was used by month and model, by default since the month before the running one; the dearest of a month first.

create or replace function public.report_credit_usage(p_since interval default '1 month')
returns table (month date, provider text, model text, events bigint, failures bigint, tokens numeric, cost numeric, refunded numeric)
language sql stable
set search_path = ''
as $$
  select u.month, nullif(u.provider, ''), nullif(u.model, ''), sum(u.events)::bigint, sum(u.failures)::bigint, sum(u.tokens), sum(u.cost),
         sum(u.refunded)
    from internal.usage_by_month as u
   where u.month >= date_trunc('month', (internal.clock() - p_since) at time zone 'UTC')::date
   group by u.month, u.provider, u.model
   order by u.month desc, 7 desc, 3, 2
$$;

-- sql/80_operations/report_damage.sql

-- What was decided since a moment, usually a deployment: whom it touched and how many points it moved.

create or replace function public.report_damage(p_since timestamptz)
returns table (affected_users bigint, events bigint, total_points_affected bigint, points_awarded bigint, coupons bigint)
language sql stable
set search_path = ''
as $$
  select count(distinct e.user_id), count(*), sum(e.points_delta),
         coalesce(sum(e.points_delta) filter (where e.points_delta > 0), 0),
         (select count(*) from public.coupons as c where c.issued_at >= p_since)
    from public.points_events as e
   where e.created_at >= p_since and e.validation_status in ('validated', 'rejected')
$$;

-- sql/80_operations/report_events_by_status.sql

-- How many events of late are in which state, and how far they were believed.

create or replace function public.report_events_by_status(p_since interval default '1 hour')
returns table (validation_status text, count bigint, avg_trust_score numeric)
language sql stable
set search_path = ''
as $$
  select e.validation_status, count(*), round(avg(e.trust_score), 2)
    from public.points_events as e
   where e.created_at >= internal.clock() - p_since
   group by e.validation_status
   order by e.validation_status
$$;

-- sql/80_operations/report_history.sql

-- One user's events, the latest first, a page at a time. The next page begins after the last event of this one, by its time
-- and its id: several events may have one time.

create or replace function public.report_history(
  p_user_id   uuid,
  p_limit     int default 50,
  p_before    timestamptz default 'infinity',
  p_before_id uuid default null
)
returns table (event_time timestamptz, event_type text, points_delta int, validation_status text, trust_score numeric, validated_by text, id uuid)
language sql stable
set search_path = ''
as $$
  select e.event_time, e.event_type, e.points_delta, e.validation_status, e.trust_score, e.validated_by, e.id
    from public.points_events as e
   where e.user_id = p_user_id
     and (e.event_time, e.id) < (p_before, coalesce(p_before_id, '00000000-0000-0000-0000-000000000000'))
   order by e.event_time desc, e.id desc
   limit p_limit
$$;

-- sql/80_operations/report_insights_by_type.sql

-- What fraud was suspected of late, and how long it took to settle.

create or replace function public.report_insights_by_type(p_since interval default '24 hours')
returns table (insight_type text, severity text, count bigint, avg_score numeric, open bigint, avg_hours_to_resolve numeric)
language sql stable
set search_path = ''
as $$
  select f.insight_type, f.severity, count(*), round(avg(f.score), 2), count(*) filter (where not f.resolved),
         round(avg(extract(epoch from f.resolved_at - f.created_at) / 3600) filter (where f.resolved), 2)
    from public.fraud_insights as f
   where f.created_at >= internal.clock() - p_since
   group by f.insight_type, f.severity
   order by 3 desc, f.insight_type, f.severity
$$;

-- sql/80_operations/report_large_allocations.sql

-- Single allocations of late above an amount, the largest first.

create or replace function public.report_large_allocations(p_since interval default '1 month', p_above numeric default 1000000)
returns table (created_at timestamptz, tenant text, amount numeric, currency text, actor text, reference_note text, id uuid)
language sql stable
set search_path = ''
as $$
  select a.created_at, t.name, a.amount, a.currency, a.actor, a.reference_note, a.id
    from public.allocation_logs as a
    left join public.tenants as t on t.id = a.tenant_id
   where a.created_at >= internal.clock() - p_since and a.amount > p_above
   order by a.amount desc, a.id
$$;

-- sql/80_operations/report_queue.sql

-- Is the worker keeping up? What waits, what has waited for over an hour (should be under 100), and what comes in.

create or replace function public.report_queue()
returns table (pending bigint, pending_review bigint, stale_pending bigint, oldest_pending timestamptz, events_last_hour bigint, open_insights bigint)
language sql stable
set search_path = ''
as $$
  select (select count(*) from public.points_events as e where e.validation_status = 'pending'),
         (select count(*) from public.points_events as e where e.validation_status = 'pending_review'),
         (select count(*) from public.points_events as e
           where e.validation_status = 'pending' and e.created_at < internal.clock() - interval '1 hour'),
         (select min(e.created_at) from public.points_events as e where e.validation_status = 'pending'),
         (select count(*) from public.points_events as e where e.created_at >= internal.clock() - interval '1 hour'),
         (select count(*) from public.fraud_insights as f where not f.resolved)
$$;

-- sql/80_operations/report_rejections_by_type.sql

-- What share of the events of late was rejected, in percent, by event type.

create or replace function public.report_rejections_by_type(p_since interval default '1 hour')
returns table (event_type text, rejected bigint, total bigint, reject_rate numeric)
language sql stable
set search_path = ''
as $$
  select e.event_type, count(*) filter (where e.validation_status = 'rejected'), count(*),
         round(100.0 * count(*) filter (where e.validation_status = 'rejected') / count(*), 2)
    from public.points_events as e
   where e.created_at >= internal.clock() - p_since
   group by e.event_type
   order by 4 desc, e.event_type
$$;

-- sql/80_operations/report_stuck_events.sql

-- The oldest events that still wait for validation.

create or replace function public.report_stuck_events(p_older_than interval default '1 hour', p_limit int default 10)
returns table (id uuid, user_id uuid, created_at timestamptz, event_type text, trust_score numeric)
language sql stable
set search_path = ''
as $$
  select e.id, e.user_id, e.created_at, e.event_type, e.trust_score
    from public.points_events as e
   where e.validation_status = 'pending' and e.created_at < internal.clock() - p_older_than
   order by e.created_at
   limit p_limit
$$;

-- sql/80_operations/report_templates.sql

-- Which coupons sell: what was issued, used and given back of each template.

create or replace function public.report_templates(p_since interval default '30 days')
returns table (template_id uuid, template_name text, is_active boolean, coupons bigint, points bigint, redeemed bigint, refunded bigint)
language sql stable
set search_path = ''
as $$
  select t.template_id, t.template_name, t.is_active, count(c.coupon_id), coalesce(sum(c.issued_points_cost), 0),
         count(*) filter (where c.status = 'redeemed'), count(c.refunded_at)
    from public.coupon_templates as t
    left join public.coupons as c on c.template_id = t.template_id and c.issued_at >= internal.clock() - p_since
   group by t.template_id, t.template_name, t.is_active
   order by 4 desc, t.template_name
$$;

-- sql/80_operations/report_tenant_audit.sql

-- Where tenants disagree with the ledger, as `tallybook verify` has it: the yearly audit of all transactions, any day.

create or replace function public.report_tenant_audit()
returns table (invariant text, tenant_id uuid, subject text, expected text, actual text)
language sql stable
set search_path = ''
as $$
  select d.invariant, d.book_id, d.subject, d.expected, d.actual from internal.tenant_discrepancies as d order by 1, 2, 3
$$;

-- sql/80_operations/report_tenant_balances.sql

-- What each tenant has to give, the most first, beside what it was allocated and how often.

create or replace function public.report_tenant_balances(p_limit int default 100)
returns table (name text, tenant_id uuid, allocation_count bigint, total_received numeric, current_balance numeric, in_wallets numeric, is_active boolean)
language sql stable
set search_path = ''
as $$
  select t.name, t.id, a.allocations, a.amount, t.points_allocation_balance, w.balance, t.is_active
    from (select x.* from public.tenants as x order by x.points_allocation_balance desc, x.id limit p_limit) as t
   cross join lateral (
         select count(*) as allocations, coalesce(sum(x.amount), 0) as amount from public.allocation_logs as x where x.tenant_id = t.id) as a
   cross join lateral (
         select coalesce(sum(x.balance), 0) as balance from public.wallets as x where x.tenant_id = t.id) as w
   order by t.points_allocation_balance desc, t.id
$$;

-- sql/80_operations/report_tenant_totals.sql

-- The runbook's daily check in one row: what all tenants have to give, the least and the most of them, and how many are
-- empty, low, or below zero, which none may be.

create or replace function public.report_tenant_totals()
returns table (total_tenants bigint, total_allocated_budget numeric, min_balance numeric, max_balance numeric, empty bigint, low bigint, below_zero bigint)
language sql stable
set search_path = ''
as $$
  select count(*), sum(t.points_allocation_balance), min(t.points_allocation_balance), max(t.points_allocation_balance),
         count(*) filter (where t.points_allocation_balance = 0),
         count(*) filter (where t.points_allocation_balance > 0 and t.points_allocation_balance < t.low_balance_threshold),
         count(*) filter (where t.points_allocation_balance < 0)
    from public.tenants as t
$$;

-- sql/80_operations/report_tenants_below_zero.sql

-- What of tenants is below zero: nothing, or somebody must be called.

create or replace function public.report_tenants_below_zero()
returns table (tenant_id uuid, what text, owner_id uuid, balance numeric)
language sql stable
set search_path = ''
as $$
  select v.tenant_id, v.what, v.owner_id, v.balance from public.tenant_balances_below_zero as v order by v.balance, v.tenant_id
$$;

-- sql/80_operations/report_top_tenants.sql

-- Who was allocated the most, since ever or of late.

create or replace function public.report_top_tenants(p_limit int default 20, p_since interval default null)
returns table (name text, points_allocation_balance numeric, allocation_count bigint, total_received numeric, tenant_id uuid)
language sql stable
set search_path = ''
as $$
  select t.name, t.points_allocation_balance, a.allocations, a.amount, t.id
    from (select x.tenant_id, count(*) as allocations, sum(x.amount) as amount
            from public.allocation_logs as x
           where p_since is null or x.created_at >= internal.clock() - p_since
           group by x.tenant_id) as a
    join public.tenants as t on t.id = a.tenant_id
   order by a.amount desc, t.id
   limit p_limit
$$;

-- sql/80_operations/report_totals.sql

-- Everything there is, in one row. total_points_awarded is the runbook's name for the net sum: what was spent and what
-- expired is taken off. The columns after it tell the parts.

create or replace function public.report_totals()
returns table (total_events bigint, unique_users bigint, total_points_awarded bigint, points_earned bigint, points_spent bigint, points_expired bigint)
language sql stable
set search_path = ''
as $$
  select count(*), count(distinct e.user_id), sum(e.points_delta) filter (where e.validation_status = 'validated'),
         coalesce(sum(e.points_delta) filter (where e.validation_status = 'validated' and e.points_delta > 0), 0),
         coalesce(-sum(e.points_delta) filter (
           where e.validation_status = 'validated' and e.points_delta < 0 and e.event_type <> 'points_expiry'), 0),
         coalesce(-sum(e.points_delta) filter (where e.validation_status = 'validated' and e.event_type = 'points_expiry'), 0)
    from public.points_events as e
$$;

-- sql/80_operations/report_usage_by_tenant.sql

-- What tenants did with their points of late, who gave most first: what was allocated, what reached wallets by awards and
-- recognitions, what was redeemed, and what the pool holds. What a member gives on to another was awarded before, and what was
-- revoked was not. `used` is the share of awarded and held that was awarded, in percent.

create or replace function public.report_usage_by_tenant(p_since interval default '30 days')
returns table (name text, allocated numeric, awarded numeric, awards bigint, recipients bigint, redeemed numeric, balance numeric, used numeric, tenant_id uuid)
language sql stable
set search_path = ''
as $$
  select t.name, coalesce(a.amount, 0), coalesce(w.awarded, 0), coalesce(w.awards, 0), coalesce(w.recipients, 0), coalesce(w.redeemed, 0),
         t.points_allocation_balance,
         round(100 * coalesce(w.awarded, 0) / nullif(coalesce(w.awarded, 0) + t.points_allocation_balance, 0), 2), t.id
    from public.tenants as t
    left join (select x.tenant_id, sum(x.amount) as amount
                 from public.allocation_logs as x
                where x.created_at >= internal.clock() - p_since
                group by x.tenant_id) as a on a.tenant_id = t.id
    left join (select x.tenant_id, sum(x.points) filter (where x.is_award) as awarded, count(*) filter (where x.is_award) as awards,
                      count(distinct x.user_id) filter (where x.is_award) as recipients,
                      sum(x.points) filter (where x.transaction_type = 'debit' and x.source = 'redemption') as redeemed
                 from (select l.tenant_id, l.user_id, l.points, l.transaction_type, l.source,
                              l.transaction_type = 'credit' and l.source = 'recognition'
                                and r.funded_by is distinct from 'wallet' and r.status is distinct from 'revoked' as is_award
                         from public.wallet_ledger as l
                         left join public.recognitions as r on r.tenant_id = l.tenant_id and r.id = l.reference_id
                        where l.created_at >= internal.clock() - p_since) as x
                group by x.tenant_id) as w on w.tenant_id = t.id
   order by coalesce(w.awarded, 0) desc, t.name, t.id
$$;

-- sql/80_operations/resume_points.sql

-- Takes a suspension back: what it had stopped is pending and on offer again, what was decided meanwhile stays decided.
-- Returns {events, templates}: how many of each.
--
-- Replay:  a second call finds nothing to resume.
-- Locks:   the templates, the events.
-- Refuses: forbidden, reason_required.

create or replace function public.resume_points(
  p_user_id    uuid,
  p_reason     text,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_since timestamptz;
  v_events int;
  v_templates int;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  select coalesce(max(a.recorded_at), '-infinity') into v_since from public.audit_log as a where a.action = 'points.resume';
  update public.coupon_templates as t
     set is_active = true
   where not t.is_active
     and t.template_id in (
         select x.template_id::uuid
           from public.audit_log as a
          cross join lateral jsonb_array_elements_text(a.after -> 'templates') as x(template_id)
          where a.action = 'points.suspend' and a.recorded_at > v_since);
  get diagnostics v_templates = row_count;
  update public.points_events as e
     set validation_status = 'pending', validation_notes = null, updated_at = internal.clock()
   where e.validation_status = 'pending_review' and e.validation_notes = 'suspended' and e.transfer_id is null;
  get diagnostics v_events = row_count;
  perform internal.audit(v_actor, 'points.resume', 'points_system', 'points', p_reason, null,
    jsonb_build_object('events', v_events, 'templates', v_templates), p_request_id);
  return jsonb_build_object('events', v_events, 'templates', v_templates);
end
$$;

-- sql/80_operations/schedule_upkeep.sql

-- Lets the database keep house by itself where pg_cron is installed: one job an upkeep procedure, every minute. It does what
-- `tallybook worker` does, and the two do not disturb each other. Returns the names of the jobs; none without pg_cron.
-- pg_cron runs a job as who scheduled it: that takes the operator's role, a role that may log in, and the right to use pg_cron.
--
-- Replay:  a job of one's own that is there is scheduled anew. Another person's are theirs and do no harm beside these.
-- Locks:   none.
-- Refuses: forbidden, to a role whose jobs would never run.

create or replace function public.schedule_upkeep(p_schedule text default '* * * * *')
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_procedure text;
  v_cron oid;      -- pg_cron's own schema
  v_jobs jsonb := jsonb_build_array();
begin
  select n.oid into v_cron
    from pg_catalog.pg_extension as x
    join pg_catalog.pg_namespace as n on n.nspname = 'cron'
   where x.extname = 'pg_cron';
  if v_cron is null then
    return v_jobs;
  elsif not has_schema_privilege(v_cron, 'usage') then
    perform internal.refuse('forbidden', format('grant usage on schema cron to %I first', current_user));
  elsif not (select r.rolcanlogin from pg_catalog.pg_roles as r where r.rolname = current_user) then
    perform internal.refuse('forbidden', format('%s may not log in, and neither could its jobs: do it as a role of your own', current_user));
  end if;

  foreach v_procedure in array array[
    'expire_holds', 'cleanup_expired_nonces', 'expire_points', 'mark_expired_coupons', 'forget_sealed_codes',
    'cleanup_coupon_attempts', 'cleanup_expired_attestations', 'expire_credits', 'allocate_monthly_credits', 'fold_usage',
    'expire_allocations', 'refill_pools', 'expire_wallets'] loop
    -- By its name in a value, because it is not there to be checked where pg_cron is not.
    execute format('select %I.schedule($1, $2, $3)', 'cron')
      using 'tallybook ' || v_procedure, p_schedule, format('select public.%I()', v_procedure);
    v_jobs := v_jobs || to_jsonb('tallybook ' || v_procedure);
  end loop;
  return v_jobs;
end
$$;

-- sql/80_operations/suspend_points.sql

-- Stops the features and keeps the data, as a partial rollback: every pending event waits for a review, nothing is on offer.
-- Returns {events, templates}: how many of each. resume_points takes it back.
--
-- Replay:  a second call finds nothing to stop.
-- Locks:   the templates on offer, the pending events.
-- Refuses: forbidden, reason_required.

create or replace function public.suspend_points(
  p_user_id    uuid,
  p_reason     text,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_events int;
  v_templates uuid[];
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  with off as (
    update public.coupon_templates as t set is_active = false where t.is_active returning t.template_id
  )
  select coalesce(array_agg(o.template_id), '{}') into v_templates from off as o;
  update public.points_events as e
     set validation_status = 'pending_review', validation_notes = 'suspended', updated_at = internal.clock()
   where e.validation_status = 'pending' and e.transfer_id is null;
  get diagnostics v_events = row_count;
  perform internal.audit(v_actor, 'points.suspend', 'points_system', 'points', p_reason, null,
    jsonb_build_object('events', v_events, 'templates', v_templates), p_request_id);
  return jsonb_build_object('events', v_events, 'templates', cardinality(v_templates));
end
$$;

-- policies/00_foundation.sql

-- Who may use the helpers. Owners need the right to create in a schema while functions are handed to them; 99_last.sql
-- takes it back.

revoke all on schema internal, ledger from public;
grant usage on schema internal to tallybook_procedures, tallybook_upkeep, tallybook_functions, tallybook_worker, tallybook_operator;
grant usage on schema internal to anon, authenticated, service_role;  -- policies call internal.caller_id(); nothing else in it is theirs
grant usage on schema ledger to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant usage on schema public to
  anon, authenticated, service_role, tallybook_procedures, tallybook_upkeep, tallybook_functions, tallybook_worker, tallybook_operator;
grant create on schema public, internal to tallybook_procedures, tallybook_upkeep;

revoke all on internal.refusals from public, anon, authenticated, service_role;
grant select on internal.refusals to tallybook_procedures, tallybook_upkeep, tallybook_operator;

revoke all on function
  internal.clock(), internal.uuidv7(), internal.uuidv7s(int), internal.uuidv7_floor(timestamptz), internal.caller_id(), internal.subjects(), internal.act_for(uuid[]),
  internal.refusal(text, text), internal.refuse(text, text), internal.single(internal.outcome), internal.append_only()
from public, anon, authenticated, service_role;

grant execute on function
  internal.clock(), internal.uuidv7(), internal.uuidv7s(int), internal.uuidv7_floor(timestamptz), internal.subjects(), internal.act_for(uuid[]),
  internal.refusal(text, text), internal.refuse(text, text), internal.single(internal.outcome)
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

grant execute on function internal.caller_id() to anon, authenticated, service_role;

-- policies/05_administration.sql

-- Administration: operators appoint administrators, everybody who acts is written down, nobody rewrites it.

revoke all on public.system_admins, public.audit_log from public, anon, authenticated, service_role;
grant select on public.system_admins to tallybook_procedures, tallybook_upkeep, service_role;
grant select, insert, update, delete on public.system_admins to tallybook_operator;
grant insert on public.audit_log to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant select on public.audit_log to service_role, tallybook_operator;

alter table public.system_admins enable row level security;
alter table public.audit_log     enable row level security;
alter table public.system_admins force row level security;
alter table public.audit_log     force row level security;

drop policy if exists "the procedures and the service know the administrators" on public.system_admins;
create policy "the procedures and the service know the administrators" on public.system_admins for select
  to tallybook_procedures, tallybook_upkeep, service_role using (true);
drop policy if exists "an operator appoints the administrators" on public.system_admins;
create policy "an operator appoints the administrators" on public.system_admins to tallybook_operator using (true);
drop policy if exists "whoever acts is written down" on public.audit_log;
create policy "whoever acts is written down" on public.audit_log for insert
  to tallybook_procedures, tallybook_upkeep, tallybook_operator with check (true);
drop policy if exists "the service and operators read the audit log" on public.audit_log;
create policy "the service and operators read the audit log" on public.audit_log for select
  to service_role, tallybook_operator using (true);

revoke all on function
  internal.actor(uuid, text), internal.audit(text, text, text, text, text, jsonb, jsonb, text), internal.audit_change()
from public, anon, authenticated, service_role;

grant execute on function internal.actor(uuid, text), internal.audit(text, text, text, text, text, jsonb, jsonb, text)
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

-- policies/10_ledger.sql

-- Who may touch the book: procedures, for the books of the call's subjects; upkeep, for all. Nobody writes by hand.

revoke all on ledger.assets, ledger.chart_of_accounts, ledger.accounts, ledger.transfers, ledger.holds, ledger.statement,
  ledger.account_discrepancies from public, anon, authenticated, service_role;

grant select on ledger.assets, ledger.chart_of_accounts to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant select, insert, update on ledger.accounts, ledger.holds to tallybook_procedures, tallybook_upkeep;
grant select, insert on ledger.transfers to tallybook_procedures, tallybook_upkeep;
grant select on ledger.accounts, ledger.holds, ledger.transfers, ledger.statement, ledger.account_discrepancies to tallybook_operator;

alter table ledger.accounts  enable row level security;
alter table ledger.transfers enable row level security;
alter table ledger.holds     enable row level security;
alter table ledger.accounts  force row level security;
alter table ledger.transfers force row level security;
alter table ledger.holds     force row level security;

drop policy if exists "a procedure touches the accounts of its subjects" on ledger.accounts;
create policy "a procedure touches the accounts of its subjects" on ledger.accounts to tallybook_procedures
  using ((book_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "a procedure touches the transfers of its subjects" on ledger.transfers;
create policy "a procedure touches the transfers of its subjects" on ledger.transfers to tallybook_procedures
  using ((book_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "a procedure touches the holds of its subjects" on ledger.holds;
create policy "a procedure touches the holds of its subjects" on ledger.holds to tallybook_procedures
  using ((book_id = any ((select internal.subjects())::uuid[])) is true);

drop policy if exists "upkeep and operators see every account" on ledger.accounts;
create policy "upkeep and operators see every account" on ledger.accounts to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every transfer" on ledger.transfers;
create policy "upkeep and operators see every transfer" on ledger.transfers to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every hold" on ledger.holds;
create policy "upkeep and operators see every hold" on ledger.holds to tallybook_upkeep, tallybook_operator using (true);

revoke all on function
  ledger.post(ledger.posting[]), ledger.post_one(ledger.posting),
  ledger.post_set(ledger.posting[], boolean), ledger.post_closely(ledger.posting[]), ledger.lock(uuid[], text), ledger.open(uuid, text),
  ledger.hold(uuid, uuid, text, bigint, text, uuid, timestamptz), ledger.close_hold(uuid, uuid, text, bigint),
  ledger.hold_many(ledger.holds[]), ledger.close_holds(ledger.holds[], text),
  ledger.settle(uuid, uuid, text, bigint, text), ledger.release(uuid, uuid), ledger.expire_holds(int),
  ledger.balance_as_of(uuid, text, timestamptz, timestamptz), ledger.set_floor(uuid, text, bigint)
from public, anon, authenticated, service_role;

grant execute on function
  ledger.post(ledger.posting[]), ledger.post_one(ledger.posting),
  ledger.post_set(ledger.posting[], boolean), ledger.post_closely(ledger.posting[]), ledger.lock(uuid[], text), ledger.open(uuid, text),
  ledger.hold(uuid, uuid, text, bigint, text, uuid, timestamptz), ledger.close_hold(uuid, uuid, text, bigint),
  ledger.hold_many(ledger.holds[]), ledger.close_holds(ledger.holds[], text),
  ledger.settle(uuid, uuid, text, bigint, text), ledger.release(uuid, uuid), ledger.expire_holds(int),
  ledger.set_floor(uuid, text, bigint)
to tallybook_procedures, tallybook_upkeep;

grant execute on function ledger.balance_as_of(uuid, text, timestamptz, timestamptz)
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

revoke all on function public.expire_holds(int) from public, anon, authenticated, service_role;
alter function public.expire_holds(int) owner to tallybook_upkeep;
grant execute on function public.expire_holds(int) to tallybook_worker, tallybook_operator;

-- policies/15_attestation.sql

-- Device attestation: the procedures keep what devices prove, operators read it and revoke keys.

revoke all on public.attestation_challenges, public.device_keys, public.device_key_users, public.attestation_cache,
  public.attestation_decodes, public.attestation_rechecks, public.attestation_failures
from public, anon, authenticated, service_role;

grant select, insert, update on public.attestation_challenges, public.device_keys to tallybook_procedures;
grant select, insert on public.device_key_users to tallybook_procedures;
grant insert on public.attestation_rechecks to tallybook_procedures;
grant select, insert, update on public.attestation_failures to tallybook_procedures, tallybook_upkeep;
grant delete on public.attestation_failures to tallybook_upkeep;
grant select, insert, update, delete on public.attestation_cache, public.attestation_decodes to tallybook_upkeep;
grant select, update, delete on public.attestation_challenges, public.attestation_rechecks to tallybook_upkeep;
grant select on public.device_key_users to tallybook_upkeep;
grant select on public.device_keys, public.device_key_users, public.attestation_cache, public.attestation_decodes,
  public.attestation_failures
to service_role, tallybook_operator;
grant update (revoked_at) on public.device_keys to tallybook_operator;

alter table public.attestation_challenges enable row level security;
alter table public.device_keys            enable row level security;
alter table public.device_key_users       enable row level security;
alter table public.attestation_cache      enable row level security;
alter table public.attestation_decodes    enable row level security;
alter table public.attestation_rechecks   enable row level security;
alter table public.attestation_failures   enable row level security;
alter table public.attestation_challenges force row level security;
alter table public.device_keys            force row level security;
alter table public.device_key_users       force row level security;
alter table public.attestation_cache      force row level security;
alter table public.attestation_decodes    force row level security;
alter table public.attestation_rechecks   force row level security;
alter table public.attestation_failures   force row level security;

drop policy if exists "a procedure asks the devices of its subjects" on public.attestation_challenges;
create policy "a procedure asks the devices of its subjects" on public.attestation_challenges to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep forgets what nobody can answer" on public.attestation_challenges;
create policy "upkeep forgets what nobody can answer" on public.attestation_challenges to tallybook_upkeep using (true);

-- A key is its device's: whoever signs in there signs with it, so no subject owns it.
drop policy if exists "the procedures keep the keys of devices" on public.device_keys;
create policy "the procedures keep the keys of devices" on public.device_keys to tallybook_procedures using (true);
drop policy if exists "operators revoke the keys of devices" on public.device_keys;
create policy "operators revoke the keys of devices" on public.device_keys to tallybook_operator using (true);
drop policy if exists "the service reads the keys of devices" on public.device_keys;
create policy "the service reads the keys of devices" on public.device_keys for select to service_role using (true);

drop policy if exists "a procedure notes which device its subjects use" on public.device_key_users;
create policy "a procedure notes which device its subjects use" on public.device_key_users to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "trust and operators see who uses a device" on public.device_key_users;
create policy "trust and operators see who uses a device" on public.device_key_users for select
  to tallybook_upkeep, tallybook_operator, service_role using (true);

drop policy if exists "upkeep keeps what is known of tokens" on public.attestation_cache;
create policy "upkeep keeps what is known of tokens" on public.attestation_cache to tallybook_upkeep using (true);
drop policy if exists "operators read what is known of tokens" on public.attestation_cache;
create policy "operators read what is known of tokens" on public.attestation_cache for select
  to tallybook_operator, service_role using (true);
drop policy if exists "upkeep counts the tokens that were decoded" on public.attestation_decodes;
create policy "upkeep counts the tokens that were decoded" on public.attestation_decodes to tallybook_upkeep using (true);
drop policy if exists "operators see how many tokens were decoded" on public.attestation_decodes;
create policy "operators see how many tokens were decoded" on public.attestation_decodes for select
  to tallybook_operator, service_role using (true);

drop policy if exists "a procedure leaves what is checked later" on public.attestation_rechecks;
create policy "a procedure leaves what is checked later" on public.attestation_rechecks for insert to tallybook_procedures
  with check (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep hands out what is checked later" on public.attestation_rechecks;
create policy "upkeep hands out what is checked later" on public.attestation_rechecks to tallybook_upkeep using (true);

drop policy if exists "a procedure writes down what its subjects failed" on public.attestation_failures;
create policy "a procedure writes down what its subjects failed" on public.attestation_failures to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep writes down what failed later" on public.attestation_failures;
create policy "upkeep writes down what failed later" on public.attestation_failures to tallybook_upkeep using (true);
drop policy if exists "operators read what attestations failed" on public.attestation_failures;
create policy "operators read what attestations failed" on public.attestation_failures for select
  to tallybook_operator, service_role using (true);

revoke all on function
  internal.settle_attestations(internal.attestation_claim[]),
  internal.fail_attestation(internal.attestation_claim, text, uuid),
  public.create_attestation_challenge(uuid, text, text), public.register_device_key(uuid, text, jsonb, text),
  public.device_public_key(uuid, text), public.claim_attestation(uuid, text, int, text, text), public.record_attestation(text, timestamptz, boolean, jsonb),
  public.due_attestations(int), public.cleanup_expired_attestations(int)
from public, anon, authenticated, service_role;

grant execute on function internal.settle_attestations(internal.attestation_claim[]) to tallybook_procedures;
grant execute on function internal.fail_attestation(internal.attestation_claim, text, uuid) to tallybook_procedures, tallybook_upkeep;

alter function public.create_attestation_challenge(uuid, text, text) owner to tallybook_procedures;
alter function public.register_device_key(uuid, text, jsonb, text) owner to tallybook_procedures;
alter function public.device_public_key(uuid, text) owner to tallybook_procedures;
grant execute on function
  public.create_attestation_challenge(uuid, text, text), public.register_device_key(uuid, text, jsonb, text),
  public.device_public_key(uuid, text)
to tallybook_functions, service_role;

alter function public.claim_attestation(uuid, text, int, text, text) owner to tallybook_upkeep;
alter function public.record_attestation(text, timestamptz, boolean, jsonb) owner to tallybook_upkeep;
grant execute on function public.claim_attestation(uuid, text, int, text, text), public.record_attestation(text, timestamptz, boolean, jsonb)
to tallybook_functions, tallybook_worker, service_role;

alter function public.due_attestations(int) owner to tallybook_upkeep;
grant execute on function public.due_attestations(int) to tallybook_worker, service_role;
alter function public.cleanup_expired_attestations(int) owner to tallybook_upkeep;
grant execute on function public.cleanup_expired_attestations(int) to service_role, tallybook_worker, tallybook_operator;

-- policies/20_points.sql

-- Points: a user reads what is theirs, the procedures write, an operator mends by hand under the triggers' eyes.

revoke all on public.points_programs, public.streak_multipliers, public.points_rules, public.points_events, public.user_points_cache, public.used_nonces, internal.workers,
  internal.points_discrepancies from public, anon, authenticated, service_role;

grant select on public.points_rules, public.points_events, public.user_points_cache to authenticated, service_role;
grant select on public.points_programs, public.points_rules, public.streak_multipliers to service_role, tallybook_procedures, tallybook_upkeep;
grant select on public.points_rules, public.streak_multipliers to authenticated;
grant select, insert, update on public.points_programs to tallybook_operator;
grant select, insert, update, delete on public.streak_multipliers to tallybook_operator;
grant select, insert, update on public.points_events, public.user_points_cache to tallybook_procedures, tallybook_upkeep;
grant select, insert on public.used_nonces to tallybook_procedures;
grant select, update, delete on public.used_nonces to tallybook_upkeep;
grant select on internal.workers to tallybook_procedures;
grant select, insert, update, delete on internal.workers to tallybook_worker;
grant select, insert, update on public.points_rules, public.points_events to tallybook_operator;
grant select on public.user_points_cache, public.used_nonces, internal.points_discrepancies to tallybook_operator;

alter table public.points_programs    enable row level security;
alter table public.streak_multipliers enable row level security;
alter table public.points_programs    force row level security;
alter table public.streak_multipliers force row level security;
alter table public.points_rules      enable row level security;
alter table public.points_events     enable row level security;
alter table public.user_points_cache enable row level security;
alter table public.used_nonces       enable row level security;
alter table public.points_rules      force row level security;
alter table public.points_events     force row level security;
alter table public.user_points_cache force row level security;
alter table public.used_nonces       force row level security;

drop policy if exists "everybody signed in reads what earns points" on public.points_rules;
create policy "everybody signed in reads what earns points" on public.points_rules for select to authenticated
  using (not is_honeypot);
drop policy if exists "the service and the procedures read every rule" on public.points_rules;
create policy "the service and the procedures read every rule" on public.points_rules for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets what earns points" on public.points_rules;
create policy "an operator sets what earns points" on public.points_rules to tallybook_operator using (true);

drop policy if exists "everybody signed in reads what a streak is worth" on public.streak_multipliers;
create policy "everybody signed in reads what a streak is worth" on public.streak_multipliers for select
  to authenticated, service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets what a streak is worth" on public.streak_multipliers;
create policy "an operator sets what a streak is worth" on public.streak_multipliers to tallybook_operator using (true);
drop policy if exists "the procedures and the service read the programs" on public.points_programs;
create policy "the procedures and the service read the programs" on public.points_programs for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets the programs" on public.points_programs;
create policy "an operator sets the programs" on public.points_programs to tallybook_operator using (true);

drop policy if exists "a user reads their own points events" on public.points_events;
create policy "a user reads their own points events" on public.points_events for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a user reads their own balance" on public.user_points_cache;
create policy "a user reads their own balance" on public.user_points_cache for select to authenticated
  using (user_id = (select internal.caller_id()));

drop policy if exists "the service reads every points event" on public.points_events;
create policy "the service reads every points event" on public.points_events for select to service_role using (true);
drop policy if exists "the service reads every balance" on public.user_points_cache;
create policy "the service reads every balance" on public.user_points_cache for select to service_role using (true);

drop policy if exists "a procedure touches the points events of its subjects" on public.points_events;
create policy "a procedure touches the points events of its subjects" on public.points_events to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "a procedure touches the balances of its subjects" on public.user_points_cache;
create policy "a procedure touches the balances of its subjects" on public.user_points_cache to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "a procedure touches the nonces of its subjects" on public.used_nonces;
create policy "a procedure touches the nonces of its subjects" on public.used_nonces to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));

drop policy if exists "upkeep and operators see every points event" on public.points_events;
create policy "upkeep and operators see every points event" on public.points_events
  to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every balance" on public.user_points_cache;
create policy "upkeep and operators see every balance" on public.user_points_cache
  to tallybook_upkeep, tallybook_operator using (true);
drop policy if exists "upkeep and operators see every nonce" on public.used_nonces;
create policy "upkeep and operators see every nonce" on public.used_nonces
  to tallybook_upkeep, tallybook_operator using (true);

revoke all on function
  internal.points_event_hash(uuid, text, timestamptz, text, text, uuid, jsonb, text, jsonb, text), internal.move_points(internal.points_move[]),
  internal.submit_points_event_batch(jsonb), internal.guard_points_event(), internal.complete_points_event(), internal.audit_points_award(), public.recheck_points_event(uuid, uuid, text, text),
  public.submit_points_event(uuid, text, timestamptz, text, text, uuid, jsonb, jsonb, text, jsonb, text, inet, text),
  public.refresh_user_points_cache(uuid), public.points_balance(uuid)
from public, anon, authenticated, service_role;

revoke all on function internal.points_awarded(public.points_events[]), internal.points_limit_detail(uuid, text) from public, anon, authenticated, service_role;
grant execute on function internal.points_awarded(public.points_events[]) to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant execute on function internal.points_limit_detail(uuid, text) to tallybook_procedures;

grant execute on function
  internal.points_event_hash(uuid, text, timestamptz, text, text, uuid, jsonb, text, jsonb, text), internal.move_points(internal.points_move[])
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

alter function internal.submit_points_event_batch(jsonb) owner to tallybook_procedures;
alter function public.submit_points_event(uuid, text, timestamptz, text, text, uuid, jsonb, jsonb, text, jsonb, text, inet, text)
  owner to tallybook_procedures;
alter function public.refresh_user_points_cache(uuid) owner to tallybook_procedures;
alter function public.points_balance(uuid) owner to tallybook_procedures;

grant execute on function internal.submit_points_event_batch(jsonb) to tallybook_functions;
grant execute on function public.submit_points_event(uuid, text, timestamptz, text, text, uuid, jsonb, jsonb, text, jsonb, text, inet, text)
to tallybook_functions, service_role;
grant execute on function public.points_balance(uuid) to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.refresh_user_points_cache(uuid) to service_role, tallybook_worker, tallybook_operator;

revoke all on function public.cleanup_expired_nonces(int) from public, anon, authenticated, service_role;
alter function public.cleanup_expired_nonces(int) owner to tallybook_upkeep;
grant execute on function public.cleanup_expired_nonces(int) to service_role, tallybook_worker, tallybook_operator;

revoke all on function internal.overdrawn_points(internal.points_move[]), public.import_points_events(text, jsonb)
from public, anon, authenticated, service_role;
grant execute on function internal.overdrawn_points(internal.points_move[]) to tallybook_upkeep;
alter function public.import_points_events(text, jsonb) owner to tallybook_upkeep;
grant execute on function public.import_points_events(text, jsonb) to tallybook_operator;

revoke all on internal.points_expiry_walks, public.points_expiry_schedule from public, anon, authenticated, service_role;
grant select, insert, update, delete on internal.points_expiry_walks to tallybook_upkeep;
grant select on public.points_expiry_schedule to tallybook_operator;

revoke all on function
  internal.earned_lots(uuid[]), internal.walk_points_expiry(), public.points_schedule(uuid), public.expire_points(int),
  public.award_points(uuid, uuid, int, text, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function internal.earned_lots(uuid[]) to tallybook_procedures, tallybook_upkeep, tallybook_operator;
alter function internal.walk_points_expiry() owner to tallybook_upkeep;
alter function public.points_schedule(uuid) owner to tallybook_procedures;
grant execute on function public.points_schedule(uuid) to tallybook_functions, service_role, tallybook_operator;
alter function public.expire_points(int) owner to tallybook_upkeep;
grant execute on function public.expire_points(int) to service_role, tallybook_worker, tallybook_operator;
alter function public.award_points(uuid, uuid, int, text, text, text, text) owner to tallybook_upkeep;
grant execute on function public.award_points(uuid, uuid, int, text, text, text, text)
to tallybook_functions, service_role, tallybook_operator;

alter function public.recheck_points_event(uuid, uuid, text, text) owner to tallybook_upkeep;
grant execute on function public.recheck_points_event(uuid, uuid, text, text) to tallybook_worker, service_role;

-- policies/30_coupons.sql

-- Coupons: everybody signed in sees what is on offer, a user reads their own coupons, the procedures issue. At a partner's
-- till a procedure sees the one coupon whose code is shown.

revoke all on
  public.coupon_templates, public.coupon_stock, public.coupons, public.partner_members, public.coupon_throttles, public.coupon_attempts,
  internal.coupon_discrepancies, internal.coupon_guessing
from public, anon, authenticated, service_role;

grant select on public.coupon_templates, public.coupons to authenticated, service_role, tallybook_procedures, tallybook_upkeep;
grant insert, update on public.coupons to tallybook_procedures, tallybook_upkeep;
grant select, insert, update on public.coupon_templates to tallybook_operator;
grant select, update on public.coupons to tallybook_operator;
grant select on public.coupon_stock to service_role, tallybook_operator;
grant select, update on public.coupon_stock to tallybook_procedures;
grant select, insert, update on public.coupon_stock to tallybook_upkeep;
grant select on public.partner_members to service_role, tallybook_procedures;
grant select, insert, update, delete on public.partner_members, public.coupon_throttles to tallybook_operator;
grant select on public.coupon_throttles to service_role, tallybook_procedures, tallybook_upkeep;
grant select, insert, update on public.coupon_attempts to tallybook_procedures;
grant select, update, delete on public.coupon_attempts to tallybook_upkeep;
grant select, delete on public.coupon_attempts to tallybook_operator;
grant select on internal.coupon_discrepancies to tallybook_operator;
grant select on internal.coupon_guessing to tallybook_upkeep, tallybook_operator;

alter table public.coupon_templates enable row level security;
alter table public.coupon_stock     enable row level security;
alter table public.coupons          enable row level security;
alter table public.partner_members  enable row level security;
alter table public.coupon_throttles enable row level security;
alter table public.coupon_attempts  enable row level security;
alter table public.coupon_templates force row level security;
alter table public.coupon_stock     force row level security;
alter table public.coupons          force row level security;
alter table public.partner_members  force row level security;
alter table public.coupon_throttles force row level security;
alter table public.coupon_attempts  force row level security;

drop policy if exists "everybody signed in sees the coupons on offer" on public.coupon_templates;
create policy "everybody signed in sees the coupons on offer" on public.coupon_templates for select to authenticated
  using (is_active);
drop policy if exists "the service and the procedures see every template" on public.coupon_templates;
create policy "the service and the procedures see every template" on public.coupon_templates for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets what is on offer" on public.coupon_templates;
create policy "an operator sets what is on offer" on public.coupon_templates to tallybook_operator using (true);

drop policy if exists "the procedures count what is sold" on public.coupon_stock;
create policy "the procedures count what is sold" on public.coupon_stock to tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "the service and operators see the stock" on public.coupon_stock;
create policy "the service and operators see the stock" on public.coupon_stock for select to service_role, tallybook_operator using (true);

drop policy if exists "a user reads their own coupons" on public.coupons;
create policy "a user reads their own coupons" on public.coupons for select to authenticated
  using (issued_to = (select internal.caller_id()));
drop policy if exists "the service reads every coupon" on public.coupons;
create policy "the service reads every coupon" on public.coupons for select to service_role using (true);
-- One policy for each command: of two permissive ones Postgres would evaluate both for every row.
drop policy if exists "a procedure sees its subjects' coupons and those shown" on public.coupons;
create policy "a procedure sees its subjects' coupons and those shown" on public.coupons for select
  to tallybook_procedures
  using (issued_to = any ((select internal.subjects())::uuid[]) or code_hash = any ((select internal.shown_codes())::text[]));
drop policy if exists "a procedure uses its subjects' coupons and those shown" on public.coupons;
create policy "a procedure uses its subjects' coupons and those shown" on public.coupons for update
  to tallybook_procedures
  using (issued_to = any ((select internal.subjects())::uuid[]) or code_hash = any ((select internal.shown_codes())::text[]));
drop policy if exists "a procedure issues coupons to its subjects" on public.coupons;
create policy "a procedure issues coupons to its subjects" on public.coupons for insert to tallybook_procedures
  with check (issued_to = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep and operators see every coupon" on public.coupons;
create policy "upkeep and operators see every coupon" on public.coupons to tallybook_upkeep, tallybook_operator using (true);

drop policy if exists "a procedure sees where its subjects are members" on public.partner_members;
create policy "a procedure sees where its subjects are members" on public.partner_members for select to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "the service reads the partners' members" on public.partner_members;
create policy "the service reads the partners' members" on public.partner_members for select to service_role using (true);
drop policy if exists "an operator appoints the partners' members" on public.partner_members;
create policy "an operator appoints the partners' members" on public.partner_members to tallybook_operator using (true);

drop policy if exists "the service and the procedures read the throttles" on public.coupon_throttles;
create policy "the service and the procedures read the throttles" on public.coupon_throttles for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets the throttles of codes" on public.coupon_throttles;
create policy "an operator sets the throttles of codes" on public.coupon_throttles to tallybook_operator using (true);
drop policy if exists "the procedures count the wrong codes" on public.coupon_attempts;
create policy "the procedures count the wrong codes" on public.coupon_attempts to tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sees and lifts a throttle" on public.coupon_attempts;
create policy "an operator sees and lifts a throttle" on public.coupon_attempts to tallybook_operator using (true);

-- Nobody calls these by themselves: triggers do, and policies, and the procedures below.
revoke all on function
  internal.touch_coupon_template(), internal.count_coupon_stock(), internal.guard_coupon(), internal.apply_coupon_refund(),
  internal.show_codes(text[]), internal.shown_codes(), internal.show_coupon(uuid, text[], boolean),
  internal.coupon_guessers(uuid, inet, text), internal.throttle_coupon_codes(uuid, inet, text), internal.coupon_code_failed(uuid, inet, text),
  internal.refund_coupon_points(public.coupons, text, text, text)
from public, anon, authenticated, service_role;

alter function internal.count_coupon_stock() owner to tallybook_upkeep;
alter function internal.apply_coupon_refund() owner to tallybook_upkeep;

grant execute on function
  internal.show_codes(text[]), internal.shown_codes(), internal.show_coupon(uuid, text[], boolean),
  internal.coupon_guessers(uuid, inet, text), internal.throttle_coupon_codes(uuid, inet, text), internal.coupon_code_failed(uuid, inet, text)
to tallybook_procedures;
grant execute on function internal.refund_coupon_points(public.coupons, text, text, text) to tallybook_upkeep;

-- Buying, for the user; then verifying, holding and consuming, for whoever shows a code.
revoke all on function
  internal.redeem_coupon_batch(jsonb), public.redeem_coupon(uuid, uuid, text, text, text, text, text),
  public.verify_coupon(uuid, text[], inet, text), public.consume_coupon(uuid, text[], text, jsonb, inet, text, text),
  public.hold_coupon(uuid, text[], text, int, inet, text, text), public.release_coupon(uuid, text[], text, inet, text, text)
from public, anon, authenticated, service_role;

alter function internal.redeem_coupon_batch(jsonb) owner to tallybook_procedures;
alter function public.redeem_coupon(uuid, uuid, text, text, text, text, text) owner to tallybook_procedures;
alter function public.verify_coupon(uuid, text[], inet, text) owner to tallybook_procedures;
alter function public.consume_coupon(uuid, text[], text, jsonb, inet, text, text) owner to tallybook_procedures;
alter function public.hold_coupon(uuid, text[], text, int, inet, text, text) owner to tallybook_procedures;
alter function public.release_coupon(uuid, text[], text, inet, text, text) owner to tallybook_procedures;

grant execute on function internal.redeem_coupon_batch(jsonb) to tallybook_functions;
grant execute on function
  public.redeem_coupon(uuid, uuid, text, text, text, text, text),
  public.verify_coupon(uuid, text[], inet, text), public.consume_coupon(uuid, text[], text, jsonb, inet, text, text),
  public.hold_coupon(uuid, text[], text, int, inet, text, text), public.release_coupon(uuid, text[], text, inet, text, text)
to tallybook_functions, service_role;

-- Revoking and refunding, for administrators; and the upkeep.
revoke all on function
  public.revoke_coupon(uuid, uuid, text, boolean, text, text), public.refund_coupon(uuid, uuid, text, text, text),
  public.mark_expired_coupons(int), public.forget_sealed_codes(int), public.cleanup_coupon_attempts(int)
from public, anon, authenticated, service_role;

alter function public.revoke_coupon(uuid, uuid, text, boolean, text, text) owner to tallybook_upkeep;
alter function public.refund_coupon(uuid, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.mark_expired_coupons(int) owner to tallybook_upkeep;
alter function public.forget_sealed_codes(int) owner to tallybook_upkeep;
alter function public.cleanup_coupon_attempts(int) owner to tallybook_upkeep;

grant execute on function public.revoke_coupon(uuid, uuid, text, boolean, text, text), public.refund_coupon(uuid, uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.mark_expired_coupons(int), public.forget_sealed_codes(int), public.cleanup_coupon_attempts(int)
to service_role, tallybook_worker, tallybook_operator;

-- An operator takes a coupon by its code where a partner's till cannot.
grant execute on function public.verify_coupon(uuid, text[], inet, text), public.consume_coupon(uuid, text[], text, jsonb, inet, text, text)
to tallybook_operator;

-- policies/40_trust.sql

-- Trust: clients never learn how they are judged. Operators set the rules and the lists; what was decided, only the
-- procedures write. The types of insights are the schema's own: foreign keys read them, and people.

revoke all on internal.fraud_insight_types from public, anon, authenticated, service_role;
grant select on internal.fraud_insight_types to service_role, tallybook_operator;

revoke all on public.trust_policies, public.trust_rules, public.trust_lists, public.device_users, public.entity_owners,
  public.trust_assessments, public.fraud_insights, public.points_reviews, public.points_review_notes,
  public.trust_rule_precision
from public, anon, authenticated, service_role;

grant select on public.trust_policies, public.trust_rules, public.trust_lists, public.device_users, public.entity_owners,
  public.trust_assessments, public.fraud_insights, public.points_reviews, public.points_review_notes
to service_role, tallybook_upkeep, tallybook_operator;
grant select on public.trust_rule_precision to service_role, tallybook_operator;
grant insert on public.device_users, public.points_reviews, public.points_review_notes to tallybook_upkeep;
grant insert, update on public.trust_assessments, public.fraud_insights to tallybook_upkeep;
grant insert, update on public.trust_policies, public.trust_rules, public.fraud_insights to tallybook_operator;
grant insert, update, delete on public.trust_lists, public.entity_owners to tallybook_operator;

alter table public.trust_policies      enable row level security;
alter table public.trust_rules         enable row level security;
alter table public.trust_lists         enable row level security;
alter table public.device_users        enable row level security;
alter table public.entity_owners       enable row level security;
alter table public.trust_assessments   enable row level security;
alter table public.fraud_insights      enable row level security;
alter table public.points_reviews      enable row level security;
alter table public.points_review_notes enable row level security;
alter table public.trust_policies      force row level security;
alter table public.trust_rules         force row level security;
alter table public.trust_lists         force row level security;
alter table public.device_users        force row level security;
alter table public.entity_owners       force row level security;
alter table public.trust_assessments   force row level security;
alter table public.fraud_insights      force row level security;
alter table public.points_reviews      force row level security;
alter table public.points_review_notes force row level security;

drop policy if exists "the service and upkeep read the trust policies" on public.trust_policies;
create policy "the service and upkeep read the trust policies" on public.trust_policies for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator sets the trust policies" on public.trust_policies;
create policy "an operator sets the trust policies" on public.trust_policies to tallybook_operator using (true);

drop policy if exists "the service and upkeep read the trust rules" on public.trust_rules;
create policy "the service and upkeep read the trust rules" on public.trust_rules for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator sets the trust rules" on public.trust_rules;
create policy "an operator sets the trust rules" on public.trust_rules to tallybook_operator using (true);

drop policy if exists "the service and upkeep read the trust lists" on public.trust_lists;
create policy "the service and upkeep read the trust lists" on public.trust_lists for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator keeps the trust lists" on public.trust_lists;
create policy "an operator keeps the trust lists" on public.trust_lists to tallybook_operator using (true);

drop policy if exists "the service and operators read whose device it is" on public.device_users;
create policy "the service and operators read whose device it is" on public.device_users for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep notes whose device it is" on public.device_users;
create policy "upkeep notes whose device it is" on public.device_users to tallybook_upkeep using (true);

drop policy if exists "the service and upkeep read whose a thing is" on public.entity_owners;
create policy "the service and upkeep read whose a thing is" on public.entity_owners for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator registers whose a thing is" on public.entity_owners;
create policy "an operator registers whose a thing is" on public.entity_owners to tallybook_operator using (true);

drop policy if exists "the service and operators read every assessment" on public.trust_assessments;
create policy "the service and operators read every assessment" on public.trust_assessments for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep writes down every assessment" on public.trust_assessments;
create policy "upkeep writes down every assessment" on public.trust_assessments to tallybook_upkeep using (true);

drop policy if exists "the service reads every fraud insight" on public.fraud_insights;
create policy "the service reads every fraud insight" on public.fraud_insights for select to service_role using (true);
drop policy if exists "upkeep and operators see every fraud insight" on public.fraud_insights;
create policy "upkeep and operators see every fraud insight" on public.fraud_insights
  to tallybook_upkeep, tallybook_operator using (true);

drop policy if exists "the service and operators read every review" on public.points_reviews;
create policy "the service and operators read every review" on public.points_reviews for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep writes down every review" on public.points_reviews;
create policy "upkeep writes down every review" on public.points_reviews to tallybook_upkeep using (true);

drop policy if exists "the service and operators read every note" on public.points_review_notes;
create policy "the service and operators read every note" on public.points_review_notes for select
  to service_role, tallybook_operator using (true);
drop policy if exists "upkeep writes down every note" on public.points_review_notes;
create policy "upkeep writes down every note" on public.points_review_notes to tallybook_upkeep using (true);

revoke all on function
  internal.account_created_at(uuid[]), internal.points_event_features(public.points_events[]),
  internal.judge_points_events(internal.points_assessed[], public.trust_policies, public.trust_rules[]),
  internal.decide_points_events(public.points_events[]), internal.pending_points_events(uuid, int),
  internal.flag_points_event(public.points_events, text, text), internal.user_of_points_event(uuid),
  internal.points_review_answer(public.points_events, public.points_reviews, boolean),
  internal.changed_trust_rules(jsonb), internal.bump_version(),
  public.validate_points_events(uuid, int, uuid),
  public.review_points_event(uuid, uuid, text, text, text, text, text),
  public.label_points_event(uuid, uuid, text, text, text, text),
  public.resolve_fraud_insight(uuid, uuid, text, text, text),
  public.backtest_trust(int, int, jsonb, timestamptz, timestamptz), internal.suspect_failed_attestation()
from public, anon, authenticated, service_role;

grant execute on function
  internal.account_created_at(uuid[]), internal.points_event_features(public.points_events[]),
  internal.judge_points_events(internal.points_assessed[], public.trust_policies, public.trust_rules[]),
  internal.decide_points_events(public.points_events[]), internal.pending_points_events(uuid, int),
  internal.flag_points_event(public.points_events, text, text), internal.user_of_points_event(uuid),
  internal.points_review_answer(public.points_events, public.points_reviews, boolean),
  internal.changed_trust_rules(jsonb)
to tallybook_upkeep;

alter function public.validate_points_events(uuid, int, uuid) owner to tallybook_upkeep;
grant execute on function public.validate_points_events(uuid, int, uuid)
to tallybook_functions, tallybook_worker, service_role, tallybook_operator;

alter function public.review_points_event(uuid, uuid, text, text, text, text, text) owner to tallybook_upkeep;
alter function public.label_points_event(uuid, uuid, text, text, text, text) owner to tallybook_upkeep;
alter function public.resolve_fraud_insight(uuid, uuid, text, text, text) owner to tallybook_upkeep;
grant execute on function
  public.review_points_event(uuid, uuid, text, text, text, text, text),
  public.label_points_event(uuid, uuid, text, text, text, text),
  public.resolve_fraud_insight(uuid, uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;

alter function public.backtest_trust(int, int, jsonb, timestamptz, timestamptz) owner to tallybook_upkeep;
grant execute on function public.backtest_trust(int, int, jsonb, timestamptz, timestamptz) to service_role, tallybook_operator;

alter function internal.suspect_failed_attestation() owner to tallybook_upkeep;

-- policies/50_credits.sql

-- Credits: a user reads what is theirs, the procedures write, an operator sets prices and codes. Nobody else writes.

revoke all on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers,
  public.credit_packages, public.user_credits, public.credit_transactions, public.credit_grants, public.credit_lot_entries,
  public.credit_reservations, public.usage_events, public.usage_rollups, internal.usage_totals, internal.usage_deltas,
  public.coupon_codes, public.coupon_redemptions, public.openrouter_accounts, internal.credit_discrepancies,
  internal.credit_reservation_discrepancies
from public, anon, authenticated, service_role;
grant select on internal.credit_discrepancies, internal.credit_reservation_discrepancies to tallybook_operator;

grant select on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers, public.credit_packages
to authenticated, service_role, tallybook_procedures, tallybook_upkeep;
grant insert, delete on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers
to tallybook_upkeep;
grant select, insert, update, delete on
  public.pricing_versions, public.pricing_models, public.pricing_providers, public.pricing_power_levels, public.pricing_tiers, public.credit_packages
to tallybook_operator;

grant select on
  public.user_credits, public.credit_transactions, public.credit_grants, public.credit_lot_entries, public.credit_reservations,
  public.usage_events, public.usage_rollups, public.coupon_redemptions
to authenticated, service_role, tallybook_operator;
grant select, insert, update on public.user_credits, public.credit_grants, public.usage_rollups, public.coupon_redemptions
to tallybook_procedures, tallybook_upkeep;
grant select, insert on public.credit_transactions, public.credit_lot_entries, public.credit_reservations, public.usage_events
to tallybook_procedures, tallybook_upkeep;
grant update (released_at, available_again) on public.credit_reservations to tallybook_procedures;
grant insert on internal.usage_deltas to tallybook_procedures;
grant select, insert, delete on internal.usage_deltas to tallybook_upkeep;
grant select, insert, update on internal.usage_totals to tallybook_upkeep;
grant select on internal.usage_totals, internal.usage_deltas to tallybook_operator;

grant select on public.coupon_codes to service_role;
grant select, update on public.coupon_codes to tallybook_procedures;
grant select, insert, update, delete on public.coupon_codes to tallybook_upkeep, tallybook_operator;

-- Nobody reads a key through an API, encrypted or not.
grant select, insert, update, delete on public.openrouter_accounts to tallybook_procedures;
grant select on public.openrouter_accounts to tallybook_operator;

alter table public.pricing_versions     enable row level security;
alter table public.pricing_models       enable row level security;
alter table public.pricing_providers    enable row level security;
alter table public.pricing_power_levels enable row level security;
alter table public.pricing_tiers        enable row level security;
alter table public.credit_packages      enable row level security;
alter table public.user_credits         enable row level security;
alter table public.credit_transactions  enable row level security;
alter table public.credit_grants        enable row level security;
alter table public.credit_lot_entries   enable row level security;
alter table public.credit_reservations  enable row level security;
alter table public.usage_events         enable row level security;
alter table public.usage_rollups        enable row level security;
alter table public.coupon_codes         enable row level security;
alter table public.coupon_redemptions   enable row level security;
alter table public.openrouter_accounts  enable row level security;
alter table public.pricing_versions     force row level security;
alter table public.pricing_models       force row level security;
alter table public.pricing_providers    force row level security;
alter table public.pricing_power_levels force row level security;
alter table public.pricing_tiers        force row level security;
alter table public.credit_packages      force row level security;
alter table public.user_credits         force row level security;
alter table public.credit_transactions  force row level security;
alter table public.credit_grants        force row level security;
alter table public.credit_lot_entries   force row level security;
alter table public.credit_reservations  force row level security;
alter table public.usage_events         force row level security;
alter table public.usage_rollups        force row level security;
alter table public.coupon_codes         force row level security;
alter table public.coupon_redemptions   force row level security;
alter table public.openrouter_accounts  force row level security;

drop policy if exists "everybody signed in reads the packages of credits" on public.credit_packages;
create policy "everybody signed in reads the packages of credits" on public.credit_packages for select
  to authenticated, service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets the packages of credits" on public.credit_packages;
create policy "an operator sets the packages of credits" on public.credit_packages to tallybook_operator using (true);
drop policy if exists "everybody signed in reads the price lists" on public.pricing_versions;
create policy "everybody signed in reads the price lists" on public.pricing_versions for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the price lists" on public.pricing_versions;
create policy "operators and upkeep set the price lists" on public.pricing_versions to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the prices of models" on public.pricing_models;
create policy "everybody signed in reads the prices of models" on public.pricing_models for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the prices of models" on public.pricing_models;
create policy "operators and upkeep set the prices of models" on public.pricing_models to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the prices of providers" on public.pricing_providers;
create policy "everybody signed in reads the prices of providers" on public.pricing_providers for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the prices of providers" on public.pricing_providers;
create policy "operators and upkeep set the prices of providers" on public.pricing_providers to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the power levels" on public.pricing_power_levels;
create policy "everybody signed in reads the power levels" on public.pricing_power_levels for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the power levels" on public.pricing_power_levels;
create policy "operators and upkeep set the power levels" on public.pricing_power_levels to tallybook_operator, tallybook_upkeep using (true);
drop policy if exists "everybody signed in reads the tiers" on public.pricing_tiers;
create policy "everybody signed in reads the tiers" on public.pricing_tiers for select
  to authenticated, service_role, tallybook_procedures using (true);
drop policy if exists "operators and upkeep set the tiers" on public.pricing_tiers;
create policy "operators and upkeep set the tiers" on public.pricing_tiers to tallybook_operator, tallybook_upkeep using (true);

drop policy if exists "a user reads their own credits" on public.user_credits;
create policy "a user reads their own credits" on public.user_credits for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the credits of its subjects" on public.user_credits;
create policy "a procedure touches the credits of its subjects" on public.user_credits to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all credits" on public.user_credits;
create policy "the service and operators read all credits" on public.user_credits for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all credits" on public.user_credits;
create policy "upkeep sees all credits" on public.user_credits to tallybook_upkeep using (true);
drop policy if exists "a user reads their own credit transactions" on public.credit_transactions;
create policy "a user reads their own credit transactions" on public.credit_transactions for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the credit transactions of its subjects" on public.credit_transactions;
create policy "a procedure touches the credit transactions of its subjects" on public.credit_transactions to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all credit transactions" on public.credit_transactions;
create policy "the service and operators read all credit transactions" on public.credit_transactions for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all credit transactions" on public.credit_transactions;
create policy "upkeep sees all credit transactions" on public.credit_transactions to tallybook_upkeep using (true);
drop policy if exists "a user reads their own lots" on public.credit_grants;
create policy "a user reads their own lots" on public.credit_grants for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the lots of its subjects" on public.credit_grants;
create policy "a procedure touches the lots of its subjects" on public.credit_grants to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all lots" on public.credit_grants;
create policy "the service and operators read all lots" on public.credit_grants for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all lots" on public.credit_grants;
create policy "upkeep sees all lots" on public.credit_grants to tallybook_upkeep using (true);
drop policy if exists "a user reads their own lot entries" on public.credit_lot_entries;
create policy "a user reads their own lot entries" on public.credit_lot_entries for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the lot entries of its subjects" on public.credit_lot_entries;
create policy "a procedure touches the lot entries of its subjects" on public.credit_lot_entries to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all lot entries" on public.credit_lot_entries;
create policy "the service and operators read all lot entries" on public.credit_lot_entries for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all lot entries" on public.credit_lot_entries;
create policy "upkeep sees all lot entries" on public.credit_lot_entries to tallybook_upkeep using (true);
drop policy if exists "a user reads their own reservations" on public.credit_reservations;
create policy "a user reads their own reservations" on public.credit_reservations for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the reservations of its subjects" on public.credit_reservations;
create policy "a procedure touches the reservations of its subjects" on public.credit_reservations to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all reservations" on public.credit_reservations;
create policy "the service and operators read all reservations" on public.credit_reservations for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all reservations" on public.credit_reservations;
create policy "upkeep sees all reservations" on public.credit_reservations to tallybook_upkeep using (true);
drop policy if exists "a user reads their own usage" on public.usage_events;
create policy "a user reads their own usage" on public.usage_events for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the usage of its subjects" on public.usage_events;
create policy "a procedure touches the usage of its subjects" on public.usage_events to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all usage" on public.usage_events;
create policy "the service and operators read all usage" on public.usage_events for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all usage" on public.usage_events;
create policy "upkeep sees all usage" on public.usage_events to tallybook_upkeep using (true);
drop policy if exists "a user reads their own usage rollups" on public.usage_rollups;
create policy "a user reads their own usage rollups" on public.usage_rollups for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the usage rollups of its subjects" on public.usage_rollups;
create policy "a procedure touches the usage rollups of its subjects" on public.usage_rollups to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all usage rollups" on public.usage_rollups;
create policy "the service and operators read all usage rollups" on public.usage_rollups for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all usage rollups" on public.usage_rollups;
create policy "upkeep sees all usage rollups" on public.usage_rollups to tallybook_upkeep using (true);
drop policy if exists "a user reads their own redeemed promotions" on public.coupon_redemptions;
create policy "a user reads their own redeemed promotions" on public.coupon_redemptions for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the redeemed promotions of its subjects" on public.coupon_redemptions;
create policy "a procedure touches the redeemed promotions of its subjects" on public.coupon_redemptions to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "the service and operators read all redeemed promotions" on public.coupon_redemptions;
create policy "the service and operators read all redeemed promotions" on public.coupon_redemptions for select to service_role, tallybook_operator using (true);
drop policy if exists "upkeep sees all redeemed promotions" on public.coupon_redemptions;
create policy "upkeep sees all redeemed promotions" on public.coupon_redemptions to tallybook_upkeep using (true);

drop policy if exists "the service and the procedures read the promotions" on public.coupon_codes;
create policy "the service and the procedures read the promotions" on public.coupon_codes for select
  to service_role, tallybook_procedures using (true);
drop policy if exists "a procedure counts the uses of a promotion" on public.coupon_codes;
create policy "a procedure counts the uses of a promotion" on public.coupon_codes for update to tallybook_procedures using (true);
drop policy if exists "upkeep and operators set the promotions" on public.coupon_codes;
create policy "upkeep and operators set the promotions" on public.coupon_codes to tallybook_upkeep, tallybook_operator using (true);

drop policy if exists "a procedure touches the provider accounts of its subjects" on public.openrouter_accounts;
create policy "a procedure touches the provider accounts of its subjects" on public.openrouter_accounts to tallybook_procedures
  using ((user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "an operator sees the provider accounts" on public.openrouter_accounts;
create policy "an operator sees the provider accounts" on public.openrouter_accounts for select to tallybook_operator using (true);

-- The cores.
revoke all on function
  internal.credits_json(numeric), internal.request_hash(jsonb), internal.is_system_key(text), internal.lock_credits(uuid[]),
  internal.credit_move(uuid, numeric, text, uuid, text, text, text, text, bigint, numeric, jsonb, uuid, text, text, text, text, timestamptz, uuid, text, int, timestamptz),
  internal.move_credits(internal.credit_movement[]), internal.charge_use(internal.credit_movement),
  internal.credit_cost(bigint, text, text, text, text, int), internal.pricing_version(),
  internal.expire_credit_lots(uuid[]), internal.credit_account(uuid), internal.month_spent(uuid),
  internal.record_usage(public.usage_events[]), internal.record_one_use(public.usage_events), internal.user_of_account(text), internal.users_of_accounts(text[])
from public, anon, authenticated, service_role;

grant execute on function
  internal.credits_json(numeric), internal.request_hash(jsonb), internal.is_system_key(text), internal.lock_credits(uuid[]),
  internal.credit_move(uuid, numeric, text, uuid, text, text, text, text, bigint, numeric, jsonb, uuid, text, text, text, text, timestamptz, uuid, text, int, timestamptz),
  internal.move_credits(internal.credit_movement[]), internal.charge_use(internal.credit_movement),
  internal.credit_cost(bigint, text, text, text, text, int), internal.pricing_version(),
  internal.expire_credit_lots(uuid[]), internal.credit_account(uuid), internal.month_spent(uuid),
  internal.record_usage(public.usage_events[]), internal.record_one_use(public.usage_events)
to tallybook_procedures, tallybook_upkeep;
grant execute on function internal.user_of_account(text), internal.users_of_accounts(text[]) to tallybook_upkeep, tallybook_operator;
grant execute on function internal.credits_json(numeric), internal.pricing_version(), internal.month_spent(uuid) to tallybook_operator;

revoke all on function
  internal.usage_event(uuid, numeric, bigint, text, text, text, text, boolean, jsonb, text, int, uuid, text, text, text, timestamptz),
  internal.credits_text(numeric), internal.ended_credits(uuid), internal.credit_transaction_json(public.credit_transactions),
  internal.monthly_cap_room(uuid), internal.monthly_cap_detail(numeric), internal.deduct_credits_batch(jsonb),
  public.deduct_credits(uuid, numeric, bigint, text, text, text, text, text, jsonb, text, text), public.credit_balance(uuid, boolean)
from public, anon, authenticated, service_role;

grant execute on function
  internal.usage_event(uuid, numeric, bigint, text, text, text, text, boolean, jsonb, text, int, uuid, text, text, text, timestamptz),
  internal.credits_text(numeric), internal.ended_credits(uuid), internal.credit_transaction_json(public.credit_transactions),
  internal.monthly_cap_room(uuid), internal.monthly_cap_detail(numeric)
to tallybook_procedures, tallybook_upkeep;

alter function internal.deduct_credits_batch(jsonb) owner to tallybook_procedures;
alter function public.deduct_credits(uuid, numeric, bigint, text, text, text, text, text, jsonb, text, text) owner to tallybook_procedures;
alter function public.credit_balance(uuid, boolean) owner to tallybook_procedures;
grant execute on function internal.deduct_credits_batch(jsonb) to tallybook_functions;
grant execute on function
  public.deduct_credits(uuid, numeric, bigint, text, text, text, text, text, jsonb, text, text), public.credit_balance(uuid, boolean)
to tallybook_functions, service_role, tallybook_operator;

-- Reserving, settling and releasing, for the user; and the month's cap.
revoke all on function
  internal.credit_reservation_status(public.credit_reservations, text, boolean), internal.monthly_cap(uuid),
  public.reserve_credits(uuid, text, text, text, bigint, numeric, int, jsonb, boolean, text, text),
  internal.reserve_credits_batch(jsonb), internal.settle_credits_batch(jsonb), internal.release_credits_batch(jsonb),
  public.settle_credits(uuid, uuid, bigint, numeric, boolean, jsonb, boolean, text), public.release_credits(uuid, uuid, boolean),
  public.monthly_cap(uuid), public.set_monthly_cap(uuid, numeric, text)
from public, anon, authenticated, service_role;

alter function internal.reserve_credits_batch(jsonb) owner to tallybook_procedures;
alter function internal.settle_credits_batch(jsonb) owner to tallybook_procedures;
alter function internal.release_credits_batch(jsonb) owner to tallybook_procedures;
alter function public.reserve_credits(uuid, text, text, text, bigint, numeric, int, jsonb, boolean, text, text) owner to tallybook_procedures;
alter function public.settle_credits(uuid, uuid, bigint, numeric, boolean, jsonb, boolean, text) owner to tallybook_procedures;
alter function public.release_credits(uuid, uuid, boolean) owner to tallybook_procedures;
alter function public.monthly_cap(uuid) owner to tallybook_procedures;
alter function public.set_monthly_cap(uuid, numeric, text) owner to tallybook_procedures;

grant execute on function internal.credit_reservation_status(public.credit_reservations, text, boolean), internal.monthly_cap(uuid)
to tallybook_procedures;
grant execute on function
  internal.reserve_credits_batch(jsonb), internal.settle_credits_batch(jsonb), internal.release_credits_batch(jsonb)
to tallybook_functions;
grant execute on function
  public.reserve_credits(uuid, text, text, text, bigint, numeric, int, jsonb, boolean, text, text),
  public.settle_credits(uuid, uuid, bigint, numeric, boolean, jsonb, boolean, text), public.release_credits(uuid, uuid, boolean),
  public.monthly_cap(uuid), public.set_monthly_cap(uuid, numeric, text)
to tallybook_functions, service_role;

-- Promotional codes and purchases: users redeem and buy, administrators and payment providers set and record.
revoke all on function
  internal.promotion_code(text), internal.promotion_terms(uuid, text), internal.promotion_answer(public.coupon_codes), internal.waiting_discount(uuid),
  public.redeem_promotion(uuid, text, inet, text, text, text), public.validate_promotion(uuid, text, inet, text),
  public.credit_packages_on_offer(uuid),
  public.create_promotion(uuid, text, text, numeric, text, int, int, text, int, timestamptz, timestamptz, text, text),
  public.list_promotions(uuid, boolean, int, int), public.delete_promotion(uuid, text, text, text, text),
  public.record_credit_purchase(uuid, text, text, text, numeric, text, text)
from public, anon, authenticated, service_role;

grant execute on function internal.promotion_code(text), internal.waiting_discount(uuid) to tallybook_procedures, tallybook_upkeep;
grant execute on function internal.promotion_terms(uuid, text) to tallybook_procedures;
grant execute on function internal.promotion_answer(public.coupon_codes) to tallybook_upkeep;

alter function public.redeem_promotion(uuid, text, inet, text, text, text) owner to tallybook_procedures;
alter function public.validate_promotion(uuid, text, inet, text) owner to tallybook_procedures;
alter function public.credit_packages_on_offer(uuid) owner to tallybook_procedures;
alter function public.create_promotion(uuid, text, text, numeric, text, int, int, text, int, timestamptz, timestamptz, text, text)
owner to tallybook_upkeep;
alter function public.list_promotions(uuid, boolean, int, int) owner to tallybook_upkeep;
alter function public.delete_promotion(uuid, text, text, text, text) owner to tallybook_upkeep;
alter function public.record_credit_purchase(uuid, text, text, text, numeric, text, text) owner to tallybook_upkeep;

grant execute on function
  public.redeem_promotion(uuid, text, inet, text, text, text), public.validate_promotion(uuid, text, inet, text),
  public.credit_packages_on_offer(uuid)
to tallybook_functions, service_role;
grant execute on function
  public.create_promotion(uuid, text, text, numeric, text, int, int, text, int, timestamptz, timestamptz, text, text),
  public.list_promotions(uuid, boolean, int, int), public.delete_promotion(uuid, text, text, text, text),
  public.record_credit_purchase(uuid, text, text, text, numeric, text, text)
to tallybook_functions, service_role, tallybook_operator;

-- Accounts at OpenRouter. Who may call the function that reads the key gets it encrypted.
revoke all on function
  internal.openrouter_answer(public.openrouter_accounts), internal.check_encrypted(text, text),
  public.store_openrouter_account(uuid, text, text, text, numeric), public.openrouter_account(uuid, boolean),
  public.delete_openrouter_account(uuid), public.note_openrouter_sync(uuid, text, text, numeric, text, text),
  public.reencrypt_openrouter_account(uuid, text, text, text)
from public, anon, authenticated, service_role;

alter function public.store_openrouter_account(uuid, text, text, text, numeric) owner to tallybook_procedures;
alter function public.openrouter_account(uuid, boolean) owner to tallybook_procedures;
alter function public.delete_openrouter_account(uuid) owner to tallybook_procedures;
alter function public.note_openrouter_sync(uuid, text, text, numeric, text, text) owner to tallybook_procedures;
alter function public.reencrypt_openrouter_account(uuid, text, text, text) owner to tallybook_procedures;

grant execute on function internal.openrouter_answer(public.openrouter_accounts), internal.check_encrypted(text, text) to tallybook_procedures;
grant execute on function
  public.store_openrouter_account(uuid, text, text, text, numeric), public.openrouter_account(uuid, boolean),
  public.delete_openrouter_account(uuid), public.note_openrouter_sync(uuid, text, text, numeric, text, text)
to tallybook_functions, service_role;
grant execute on function public.reencrypt_openrouter_account(uuid, text, text, text) to tallybook_operator;

-- Prices and tiers.
revoke all on function
  internal.changed_price_list(jsonb, jsonb), internal.guard_price_list(), public.price_list(int),
  public.calculate_credit_cost(uuid, bigint, text, text, text, text), public.compare_tiers(uuid, bigint, text, text),
  public.publish_prices(uuid, jsonb, text, timestamptz, text, text), public.withdraw_prices(uuid, int, text, text, text),
  public.switch_tier(uuid, text, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function internal.changed_price_list(jsonb, jsonb) to tallybook_upkeep;

alter function public.price_list(int) owner to tallybook_procedures;
alter function public.calculate_credit_cost(uuid, bigint, text, text, text, text) owner to tallybook_procedures;
alter function public.compare_tiers(uuid, bigint, text, text) owner to tallybook_procedures;
grant execute on function public.price_list(int) to tallybook_upkeep;
grant execute on function
  public.price_list(int), public.calculate_credit_cost(uuid, bigint, text, text, text, text),
  public.compare_tiers(uuid, bigint, text, text)
to tallybook_functions, service_role, tallybook_operator;

alter function public.publish_prices(uuid, jsonb, text, timestamptz, text, text) owner to tallybook_upkeep;
alter function public.withdraw_prices(uuid, int, text, text, text) owner to tallybook_upkeep;
grant execute on function
  public.publish_prices(uuid, jsonb, text, timestamptz, text, text), public.withdraw_prices(uuid, int, text, text, text)
to service_role, tallybook_operator;

alter function public.switch_tier(uuid, text, text, text, text) owner to tallybook_upkeep;
grant execute on function public.switch_tier(uuid, text, text, text, text) to tallybook_functions, service_role, tallybook_operator;

-- Credits that are given, refunded, come with the month and end.
revoke all on function
  internal.parsed_time(text), internal.ended_credit_lots(uuid[]), internal.record_usage_refund(uuid, uuid, numeric),
  internal.allocate_credits_batch(uuid, jsonb, text, text, text, text),
  public.allocate_credits(uuid, text, numeric, text, text, text, int, timestamptz, text, text, text),
  public.bulk_allocate_credits(uuid, jsonb, text, text, text, text), public.refund_credits(uuid, text, uuid, numeric, text, text, text, text),
  public.allocate_monthly_credits(int), public.expire_credits(int), public.credit_lots(uuid),
  public.credit_transactions_page(uuid, text, timestamptz, timestamptz, int, int, text), public.credit_transaction(uuid, uuid)
from public, anon, authenticated, service_role;

grant execute on function internal.ended_credit_lots(uuid[])
to tallybook_procedures, tallybook_upkeep;
grant execute on function
  internal.parsed_time(text), internal.record_usage_refund(uuid, uuid, numeric),
  internal.allocate_credits_batch(uuid, jsonb, text, text, text, text)
to tallybook_upkeep;

alter function public.allocate_credits(uuid, text, numeric, text, text, text, int, timestamptz, text, text, text) owner to tallybook_upkeep;
alter function public.bulk_allocate_credits(uuid, jsonb, text, text, text, text) owner to tallybook_upkeep;
alter function public.refund_credits(uuid, text, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.allocate_monthly_credits(int) owner to tallybook_upkeep;
alter function public.expire_credits(int) owner to tallybook_upkeep;
alter function public.credit_lots(uuid) owner to tallybook_procedures;
alter function public.credit_transactions_page(uuid, text, timestamptz, timestamptz, int, int, text) owner to tallybook_procedures;
alter function public.credit_transaction(uuid, uuid) owner to tallybook_procedures;

grant execute on function
  public.allocate_credits(uuid, text, numeric, text, text, text, int, timestamptz, text, text, text),
  public.bulk_allocate_credits(uuid, jsonb, text, text, text, text), public.refund_credits(uuid, text, uuid, numeric, text, text, text, text),
  public.credit_lots(uuid), public.credit_transactions_page(uuid, text, timestamptz, timestamptz, int, int, text),
  public.credit_transaction(uuid, uuid)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.allocate_monthly_credits(int), public.expire_credits(int)
to service_role, tallybook_worker, tallybook_operator;

-- Usage.
revoke all on
  internal.usage_by_month, internal.usage_discrepancies, public.credit_low_balances, public.credit_unusual_spending, public.credit_failure_spikes
from public, anon, authenticated, service_role;
grant select on internal.usage_by_month to tallybook_upkeep, tallybook_operator;
grant select on internal.usage_discrepancies to tallybook_operator;
grant select on public.credit_low_balances, public.credit_unusual_spending, public.credit_failure_spikes to service_role, tallybook_operator;
-- Whoever reads these views asks for the time.
grant execute on function internal.clock() to service_role;
grant update on internal.usage_deltas to tallybook_upkeep;

revoke all on function
  public.fold_usage(int), public.import_usage_events(text, jsonb), public.usage_statistics(uuid, text, timestamptz, timestamptz),
  public.credit_analytics_system(uuid, timestamptz, timestamptz), public.credit_analytics_top_spenders(uuid, date, int),
  public.credit_analytics_distribution(uuid)
from public, anon, authenticated, service_role;
alter function public.fold_usage(int) owner to tallybook_upkeep;
alter function public.import_usage_events(text, jsonb) owner to tallybook_upkeep;
alter function public.usage_statistics(uuid, text, timestamptz, timestamptz) owner to tallybook_procedures;
alter function public.credit_analytics_system(uuid, timestamptz, timestamptz) owner to tallybook_upkeep;
alter function public.credit_analytics_top_spenders(uuid, date, int) owner to tallybook_upkeep;
alter function public.credit_analytics_distribution(uuid) owner to tallybook_upkeep;
grant execute on function public.fold_usage(int) to tallybook_worker, tallybook_operator;
grant execute on function public.import_usage_events(text, jsonb) to tallybook_operator;
grant execute on function public.usage_statistics(uuid, text, timestamptz, timestamptz) to tallybook_functions, service_role, tallybook_operator;
grant execute on function
  public.credit_analytics_system(uuid, timestamptz, timestamptz), public.credit_analytics_top_spenders(uuid, date, int),
  public.credit_analytics_distribution(uuid)
to tallybook_functions, service_role, tallybook_operator;

-- policies/60_tenants.sql

-- Tenants: a member reads what is theirs and what their company shares, a manager what is the company's; procedures write,
-- an operator sets tenants and members up.

revoke all on
  public.tenants, public.departments, public.tenant_members, public.allocation_logs, public.platform_billing_logs, public.wallets, public.wallet_ledger, public.recognitions, public.recognition_groups, public.rewards, public.reward_redemptions, public.tenant_alerts,
  public.recognition_recipients, internal.tenant_discrepancies
from public, anon, authenticated, service_role;

grant select on
  public.tenants, public.departments, public.tenant_members, public.allocation_logs, public.platform_billing_logs, public.wallets, public.wallet_ledger, public.recognitions, public.recognition_groups, public.rewards, public.reward_redemptions, public.tenant_alerts
to authenticated, service_role, tallybook_operator;
grant select, insert, update on
  public.tenants, public.departments, public.tenant_members, public.allocation_logs, public.platform_billing_logs, public.wallets, public.wallet_ledger, public.recognitions, public.recognition_groups, public.rewards, public.reward_redemptions, public.tenant_alerts
to tallybook_procedures, tallybook_upkeep;
grant insert, update on public.tenants, public.departments, public.tenant_members, public.rewards to tallybook_operator;
grant select on public.recognition_recipients to authenticated, service_role, tallybook_operator, tallybook_procedures, tallybook_upkeep;
grant select on internal.tenant_discrepancies to tallybook_operator;

alter table public.tenants enable row level security;
alter table public.tenants force row level security;
alter table public.departments enable row level security;
alter table public.departments force row level security;
alter table public.tenant_members enable row level security;
alter table public.tenant_members force row level security;
alter table public.allocation_logs enable row level security;
alter table public.allocation_logs force row level security;
alter table public.platform_billing_logs enable row level security;
alter table public.platform_billing_logs force row level security;
alter table public.wallets enable row level security;
alter table public.wallets force row level security;
alter table public.wallet_ledger enable row level security;
alter table public.wallet_ledger force row level security;
alter table public.recognitions enable row level security;
alter table public.recognitions force row level security;
alter table public.recognition_groups enable row level security;
alter table public.recognition_groups force row level security;
alter table public.rewards enable row level security;
alter table public.rewards force row level security;
alter table public.reward_redemptions enable row level security;
alter table public.reward_redemptions force row level security;
alter table public.tenant_alerts enable row level security;
alter table public.tenant_alerts force row level security;

drop policy if exists "a member reads their own company's row" on public.tenants;
create policy "a member reads their own company's row" on public.tenants for select to authenticated
  -- Not by internal.member_tenants(), which asks here whether a tenant is active.
  using (is_active and id = any (array(
    select m.tenant_id from public.tenant_members as m where m.user_id = (select internal.caller_id()) and m.is_active)));
drop policy if exists "a procedure touches the tenants of its subjects" on public.tenants;
create policy "a procedure touches the tenants of its subjects" on public.tenants to tallybook_procedures
  using ((id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all tenants" on public.tenants;
create policy "upkeep sees all tenants" on public.tenants to tallybook_upkeep using (true);
drop policy if exists "the service reads all tenants" on public.tenants;
create policy "the service reads all tenants" on public.tenants for select to service_role using (true);
drop policy if exists "an operator sets all tenants" on public.tenants;
create policy "an operator sets all tenants" on public.tenants to tallybook_operator using (true);
drop policy if exists "a member reads their own company's departments" on public.departments;
create policy "a member reads their own company's departments" on public.departments for select to authenticated
  using (tenant_id = any ((select internal.member_tenants())::uuid[]));
drop policy if exists "a procedure touches the departments of its subjects" on public.departments;
create policy "a procedure touches the departments of its subjects" on public.departments to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all departments" on public.departments;
create policy "upkeep sees all departments" on public.departments to tallybook_upkeep using (true);
drop policy if exists "the service reads all departments" on public.departments;
create policy "the service reads all departments" on public.departments for select to service_role using (true);
drop policy if exists "an operator sets all departments" on public.departments;
create policy "an operator sets all departments" on public.departments to tallybook_operator using (true);
drop policy if exists "a member reads their own membership" on public.tenant_members;
create policy "a member reads their own membership" on public.tenant_members for select to authenticated
  using (user_id = (select internal.caller_id()));
drop policy if exists "a procedure touches the members of its subjects" on public.tenant_members;
create policy "a procedure touches the members of its subjects" on public.tenant_members to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[]) or user_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all members" on public.tenant_members;
create policy "upkeep sees all members" on public.tenant_members to tallybook_upkeep using (true);
drop policy if exists "the service reads all members" on public.tenant_members;
create policy "the service reads all members" on public.tenant_members for select to service_role using (true);
drop policy if exists "an operator sets all members" on public.tenant_members;
create policy "an operator sets all members" on public.tenant_members to tallybook_operator using (true);
drop policy if exists "a manager reads what was allocated to their company" on public.allocation_logs;
create policy "a manager reads what was allocated to their company" on public.allocation_logs for select to authenticated
  using (tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the allocations of its subjects" on public.allocation_logs;
create policy "a procedure touches the allocations of its subjects" on public.allocation_logs to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all allocations" on public.allocation_logs;
create policy "upkeep sees all allocations" on public.allocation_logs to tallybook_upkeep using (true);
drop policy if exists "the service reads all allocations" on public.allocation_logs;
create policy "the service reads all allocations" on public.allocation_logs for select to service_role using (true);
drop policy if exists "an operator sets all allocations" on public.allocation_logs;
create policy "an operator sets all allocations" on public.allocation_logs to tallybook_operator using (true);
drop policy if exists "a manager reads the billing of their company" on public.platform_billing_logs;
create policy "a manager reads the billing of their company" on public.platform_billing_logs for select to authenticated
  using (tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the billing of its subjects" on public.platform_billing_logs;
create policy "a procedure touches the billing of its subjects" on public.platform_billing_logs to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all billing" on public.platform_billing_logs;
create policy "upkeep sees all billing" on public.platform_billing_logs to tallybook_upkeep using (true);
drop policy if exists "the service reads all billing" on public.platform_billing_logs;
create policy "the service reads all billing" on public.platform_billing_logs for select to service_role using (true);
drop policy if exists "an operator sets all billing" on public.platform_billing_logs;
create policy "an operator sets all billing" on public.platform_billing_logs to tallybook_operator using (true);
drop policy if exists "a member reads their own wallet and a manager all" on public.wallets;
create policy "a member reads their own wallet and a manager all" on public.wallets for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the wallets of its subjects" on public.wallets;
create policy "a procedure touches the wallets of its subjects" on public.wallets to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all wallets" on public.wallets;
create policy "upkeep sees all wallets" on public.wallets to tallybook_upkeep using (true);
drop policy if exists "the service reads all wallets" on public.wallets;
create policy "the service reads all wallets" on public.wallets for select to service_role using (true);
drop policy if exists "an operator sets all wallets" on public.wallets;
create policy "an operator sets all wallets" on public.wallets to tallybook_operator using (true);
drop policy if exists "a member reads their own statement and a manager all" on public.wallet_ledger;
create policy "a member reads their own statement and a manager all" on public.wallet_ledger for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the wallet entries of its subjects" on public.wallet_ledger;
create policy "a procedure touches the wallet entries of its subjects" on public.wallet_ledger to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all wallet entries" on public.wallet_ledger;
create policy "upkeep sees all wallet entries" on public.wallet_ledger to tallybook_upkeep using (true);
drop policy if exists "the service reads all wallet entries" on public.wallet_ledger;
create policy "the service reads all wallet entries" on public.wallet_ledger for select to service_role using (true);
drop policy if exists "an operator sets all wallet entries" on public.wallet_ledger;
create policy "an operator sets all wallet entries" on public.wallet_ledger to tallybook_operator using (true);
drop policy if exists "a member reads what is public and what is their own" on public.recognitions;
create policy "a member reads what is public and what is their own" on public.recognitions for select to authenticated
  -- What public.list_recognitions shows. Whether it was given to them is looked up last.
  using (tenant_id = any ((select internal.managed_tenants())::uuid[])
         or tenant_id = any ((select internal.member_tenants())::uuid[])
            and (from_user_id = (select internal.caller_id())
                 or status = 'active' and (visibility = 'public'
                    or visibility = 'department' and department_id = any ((select internal.member_departments())::uuid[]))
                 or to_user_id = (select internal.caller_id())
                 or exists (select from public.recognition_groups as x
                             where x.tenant_id = recognitions.tenant_id and x.recognition_id = recognitions.id
                               and x.user_id = (select internal.caller_id()))));
drop policy if exists "a procedure touches the recognitions of its subjects" on public.recognitions;
create policy "a procedure touches the recognitions of its subjects" on public.recognitions to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all recognitions" on public.recognitions;
create policy "upkeep sees all recognitions" on public.recognitions to tallybook_upkeep using (true);
drop policy if exists "the service reads all recognitions" on public.recognitions;
create policy "the service reads all recognitions" on public.recognitions for select to service_role using (true);
drop policy if exists "an operator sets all recognitions" on public.recognitions;
create policy "an operator sets all recognitions" on public.recognitions to tallybook_operator using (true);
drop policy if exists "a member reads where they are among them and a manager all" on public.recognition_groups;
create policy "a member reads where they are among them and a manager all" on public.recognition_groups for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the recognized groups of its subjects" on public.recognition_groups;
create policy "a procedure touches the recognized groups of its subjects" on public.recognition_groups to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all recognized groups" on public.recognition_groups;
create policy "upkeep sees all recognized groups" on public.recognition_groups to tallybook_upkeep using (true);
drop policy if exists "the service reads all recognized groups" on public.recognition_groups;
create policy "the service reads all recognized groups" on public.recognition_groups for select to service_role using (true);
drop policy if exists "an operator sets all recognized groups" on public.recognition_groups;
create policy "an operator sets all recognized groups" on public.recognition_groups to tallybook_operator using (true);
drop policy if exists "a member reads what their company offers" on public.rewards;
create policy "a member reads what their company offers" on public.rewards for select to authenticated
  using (tenant_id = any ((select internal.member_tenants())::uuid[]) and is_active
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the rewards of its subjects" on public.rewards;
create policy "a procedure touches the rewards of its subjects" on public.rewards to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all rewards" on public.rewards;
create policy "upkeep sees all rewards" on public.rewards to tallybook_upkeep using (true);
drop policy if exists "the service reads all rewards" on public.rewards;
create policy "the service reads all rewards" on public.rewards for select to service_role using (true);
drop policy if exists "an operator sets all rewards" on public.rewards;
create policy "an operator sets all rewards" on public.rewards to tallybook_operator using (true);
drop policy if exists "a member reads what they redeemed and a manager all" on public.reward_redemptions;
create policy "a member reads what they redeemed and a manager all" on public.reward_redemptions for select to authenticated
  using (user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the redeemed rewards of its subjects" on public.reward_redemptions;
create policy "a procedure touches the redeemed rewards of its subjects" on public.reward_redemptions to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all redeemed rewards" on public.reward_redemptions;
create policy "upkeep sees all redeemed rewards" on public.reward_redemptions to tallybook_upkeep using (true);
drop policy if exists "the service reads all redeemed rewards" on public.reward_redemptions;
create policy "the service reads all redeemed rewards" on public.reward_redemptions for select to service_role using (true);
drop policy if exists "an operator sets all redeemed rewards" on public.reward_redemptions;
create policy "an operator sets all redeemed rewards" on public.reward_redemptions to tallybook_operator using (true);
drop policy if exists "a manager reads their company's alerts" on public.tenant_alerts;
create policy "a manager reads their company's alerts" on public.tenant_alerts for select to authenticated
  using (tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the alerts of its subjects" on public.tenant_alerts;
create policy "a procedure touches the alerts of its subjects" on public.tenant_alerts to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all alerts" on public.tenant_alerts;
create policy "upkeep sees all alerts" on public.tenant_alerts to tallybook_upkeep using (true);
drop policy if exists "the service reads all alerts" on public.tenant_alerts;
create policy "the service reads all alerts" on public.tenant_alerts for select to service_role using (true);
drop policy if exists "an operator sets all alerts" on public.tenant_alerts;
create policy "an operator sets all alerts" on public.tenant_alerts to tallybook_operator using (true);

revoke all on function
  internal.tenant_move(uuid, text, text, numeric, text, text, uuid, uuid, text, text, uuid, timestamptz),
  internal.move_tenant_points(internal.tenant_movement[]), internal.adjust_tenant_pool(), internal.adjust_budget(), internal.keep_tenant(), internal.points_text(numeric),
  internal.member_tenants(), internal.member_departments(), internal.managed_tenants(), internal.membership(uuid, uuid)
from public, anon, authenticated, service_role;

grant execute on function
  internal.tenant_move(uuid, text, text, numeric, text, text, uuid, uuid, text, text, uuid, timestamptz),
  internal.move_tenant_points(internal.tenant_movement[]), internal.points_text(numeric)
to tallybook_procedures, tallybook_upkeep;
grant execute on function internal.membership(uuid, uuid) to tallybook_procedures;
alter function internal.adjust_tenant_pool() owner to tallybook_upkeep;
alter function internal.adjust_budget() owner to tallybook_upkeep;
alter function internal.keep_tenant() owner to tallybook_upkeep;
grant execute on function internal.member_tenants(), internal.member_departments(), internal.managed_tenants() to authenticated;

-- Wallets, rewards, and who is a member.
revoke all on function
  internal.managing(uuid, uuid, text), internal.wallet_term(text), internal.expire_wallet_lots(uuid[], uuid[]),
  internal.reward_json(public.rewards), internal.member_json(public.tenant_members), internal.department_json(public.departments),
  public.redeem_reward(uuid, uuid, uuid, text, text), public.refund_reward_redemption(uuid, uuid, text, uuid, text, text),
  public.rewards_catalogue(uuid, uuid), public.wallet(uuid, uuid), public.list_members(uuid, uuid, text, int, text), public.expire_wallets(int),
  public.set_reward(uuid, uuid, text, numeric, text, int, boolean, boolean, uuid, text, text, text),
  public.credit_wallet(uuid, uuid, uuid, numeric, text, text, uuid, text, text),
  public.set_member(uuid, text, text, uuid, boolean, text, boolean, uuid, text, text, text),
  public.set_department(uuid, uuid, text, numeric, boolean, uuid, text, text, text),
  public.create_tenant(uuid, text, text, text, text, uuid, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function
  internal.wallet_term(text), internal.expire_wallet_lots(uuid[], uuid[]), internal.reward_json(public.rewards)
to tallybook_procedures, tallybook_upkeep;
grant execute on function
  internal.managing(uuid, uuid, text), internal.member_json(public.tenant_members), internal.department_json(public.departments)
to tallybook_upkeep;
grant execute on function internal.member_json(public.tenant_members) to tallybook_procedures;

alter function public.redeem_reward(uuid, uuid, uuid, text, text) owner to tallybook_procedures;
alter function public.rewards_catalogue(uuid, uuid) owner to tallybook_procedures;
alter function public.wallet(uuid, uuid) owner to tallybook_procedures;
alter function public.list_members(uuid, uuid, text, int, text) owner to tallybook_procedures;
alter function public.refund_reward_redemption(uuid, uuid, text, uuid, text, text) owner to tallybook_upkeep;
alter function public.set_reward(uuid, uuid, text, numeric, text, int, boolean, boolean, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.credit_wallet(uuid, uuid, uuid, numeric, text, text, uuid, text, text) owner to tallybook_upkeep;
alter function public.expire_wallets(int) owner to tallybook_upkeep;
alter function public.set_member(uuid, text, text, uuid, boolean, text, boolean, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.set_department(uuid, uuid, text, numeric, boolean, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.create_tenant(uuid, text, text, text, text, uuid, text, text, text) owner to tallybook_upkeep;

grant execute on function
  public.redeem_reward(uuid, uuid, uuid, text, text), public.rewards_catalogue(uuid, uuid), public.wallet(uuid, uuid),
  public.list_members(uuid, uuid, text, int, text),
  public.refund_reward_redemption(uuid, uuid, text, uuid, text, text)
to tallybook_functions, service_role;
grant execute on function
  public.set_reward(uuid, uuid, text, numeric, text, int, boolean, boolean, uuid, text, text, text),
  public.credit_wallet(uuid, uuid, uuid, numeric, text, text, uuid, text, text),
  public.set_member(uuid, text, text, uuid, boolean, text, boolean, uuid, text, text, text),
  public.set_department(uuid, uuid, text, numeric, boolean, uuid, text, text, text),
  public.create_tenant(uuid, text, text, text, text, uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.expire_wallets(int) to service_role, tallybook_worker, tallybook_operator;

-- The platform's side: allocations, what is taken back, budgets of leads, and upkeep.
revoke all on public.allocation_limits, public.lead_delegations from public, anon, authenticated, service_role;
grant select on public.lead_delegations to authenticated, service_role, tallybook_operator;
grant select, insert on public.lead_delegations to tallybook_procedures, tallybook_upkeep;
grant select on public.allocation_limits to service_role, tallybook_upkeep;
grant select, update on public.allocation_limits to tallybook_operator;

alter table public.allocation_limits enable row level security;
alter table public.allocation_limits force row level security;
alter table public.lead_delegations enable row level security;
alter table public.lead_delegations force row level security;

drop policy if exists "upkeep and the service know the limits of allocations" on public.allocation_limits;
create policy "upkeep and the service know the limits of allocations" on public.allocation_limits for select
  to service_role, tallybook_upkeep using (true);
drop policy if exists "an operator sets the limits of allocations" on public.allocation_limits;
create policy "an operator sets the limits of allocations" on public.allocation_limits to tallybook_operator using (true);
drop policy if exists "a lead reads what they were given and a manager all" on public.lead_delegations;
create policy "a lead reads what they were given and a manager all" on public.lead_delegations for select to authenticated
  using (lead_user_id = (select internal.caller_id()) and tenant_id = any ((select internal.member_tenants())::uuid[])
         or tenant_id = any ((select internal.managed_tenants())::uuid[]));
drop policy if exists "a procedure touches the delegations of its subjects" on public.lead_delegations;
create policy "a procedure touches the delegations of its subjects" on public.lead_delegations to tallybook_procedures
  using ((tenant_id = any ((select internal.subjects())::uuid[])) is true);
drop policy if exists "upkeep sees all delegations" on public.lead_delegations;
create policy "upkeep sees all delegations" on public.lead_delegations to tallybook_upkeep using (true);
drop policy if exists "the service and operators read all delegations" on public.lead_delegations;
create policy "the service and operators read all delegations" on public.lead_delegations for select
  to service_role, tallybook_operator using (true);

revoke all on function
  internal.lock_pools(uuid[]), internal.locked_pool(uuid), internal.bill_tenants(internal.tenant_bill[]),
  internal.billed_before(uuid, text, text), internal.points_refusal(numeric, text), internal.allocations_limit_detail(uuid, inet),
  internal.allocate_to_tenants(uuid, jsonb, text, inet, text, text, text), internal.pool_lots(uuid[]), internal.alert_tenant(),
  internal.move_lead_budget(public.tenant_members, uuid, numeric, boolean, text, text, text),
  public.allocate_to_tenant(uuid, uuid, numeric, text, text, text, inet, text, text),
  public.bulk_allocate_to_tenants(uuid, uuid[], numeric, jsonb, text, text, text, inet, text, text),
  public.clawback_allocation(uuid, uuid, numeric, text, text, text, text),
  public.reverse_allocation(uuid, uuid, uuid, numeric, text, text, text, text),
  public.adjust_tenant_pool_to(uuid, uuid, numeric, text, text, text, text),
  public.delegate_to_lead(uuid, uuid, numeric, text, uuid, text, text),
  public.recall_from_lead(uuid, uuid, numeric, text, uuid, text, text),
  public.expire_allocations(int), public.refill_pools(int)
from public, anon, authenticated, service_role;

grant execute on function internal.points_refusal(numeric, text) to tallybook_procedures, tallybook_upkeep;
grant execute on function
  internal.lock_pools(uuid[]), internal.locked_pool(uuid), internal.bill_tenants(internal.tenant_bill[]),
  internal.billed_before(uuid, text, text), internal.allocations_limit_detail(uuid, inet),
  internal.allocate_to_tenants(uuid, jsonb, text, inet, text, text, text), internal.pool_lots(uuid[])
to tallybook_upkeep;
grant execute on function internal.move_lead_budget(public.tenant_members, uuid, numeric, boolean, text, text, text)
to tallybook_procedures;

alter function internal.alert_tenant() owner to tallybook_upkeep;
alter function public.allocate_to_tenant(uuid, uuid, numeric, text, text, text, inet, text, text) owner to tallybook_upkeep;
alter function public.bulk_allocate_to_tenants(uuid, uuid[], numeric, jsonb, text, text, text, inet, text, text)
owner to tallybook_upkeep;
alter function public.clawback_allocation(uuid, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.reverse_allocation(uuid, uuid, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.adjust_tenant_pool_to(uuid, uuid, numeric, text, text, text, text) owner to tallybook_upkeep;
alter function public.delegate_to_lead(uuid, uuid, numeric, text, uuid, text, text) owner to tallybook_procedures;
alter function public.recall_from_lead(uuid, uuid, numeric, text, uuid, text, text) owner to tallybook_procedures;
alter function public.expire_allocations(int) owner to tallybook_upkeep;
alter function public.refill_pools(int) owner to tallybook_upkeep;

grant execute on function
  public.allocate_to_tenant(uuid, uuid, numeric, text, text, text, inet, text, text),
  public.bulk_allocate_to_tenants(uuid, uuid[], numeric, jsonb, text, text, text, inet, text, text),
  public.clawback_allocation(uuid, uuid, numeric, text, text, text, text),
  public.reverse_allocation(uuid, uuid, uuid, numeric, text, text, text, text),
  public.adjust_tenant_pool_to(uuid, uuid, numeric, text, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function
  public.delegate_to_lead(uuid, uuid, numeric, text, uuid, text, text),
  public.recall_from_lead(uuid, uuid, numeric, text, uuid, text, text)
to tallybook_functions, service_role;
grant execute on function public.expire_allocations(int), public.refill_pools(int) to service_role, tallybook_worker, tallybook_operator;

-- Recognitions and awards.
revoke all on function
  internal.ask_recognitions(internal.recognition_request[]), internal.lock_departments(internal.recognition_ask[]),
  internal.fund_recognitions(internal.recognition_ask[]), internal.recall_recognitions(internal.recognition_ask[]),
  internal.recognize(internal.recognition_request[]), internal.give_recognition_batch(jsonb), internal.award_to_user_batch(jsonb),
  public.give_recognition(uuid, uuid[], numeric, text, text, text, text, text, uuid, text, text),
  public.award_to_user(uuid, uuid, numeric, text, uuid, text, text),
  public.revoke_recognition(uuid, uuid, text, uuid, text, text), public.list_recognitions(uuid, uuid, text, int, text)
from public, anon, authenticated, service_role;

alter function internal.give_recognition_batch(jsonb) owner to tallybook_procedures;
alter function internal.award_to_user_batch(jsonb) owner to tallybook_procedures;
alter function public.give_recognition(uuid, uuid[], numeric, text, text, text, text, text, uuid, text, text) owner to tallybook_procedures;
alter function public.award_to_user(uuid, uuid, numeric, text, uuid, text, text) owner to tallybook_procedures;
alter function public.revoke_recognition(uuid, uuid, text, uuid, text, text) owner to tallybook_procedures;
alter function public.list_recognitions(uuid, uuid, text, int, text) owner to tallybook_procedures;

grant execute on function
  internal.ask_recognitions(internal.recognition_request[]), internal.lock_departments(internal.recognition_ask[]),
  internal.fund_recognitions(internal.recognition_ask[]), internal.recall_recognitions(internal.recognition_ask[]),
  internal.recognize(internal.recognition_request[])
to tallybook_procedures;
grant execute on function internal.give_recognition_batch(jsonb), internal.award_to_user_batch(jsonb) to tallybook_functions;
grant execute on function
  public.give_recognition(uuid, uuid[], numeric, text, text, text, text, text, uuid, text, text),
  public.award_to_user(uuid, uuid, numeric, text, uuid, text, text),
  public.revoke_recognition(uuid, uuid, text, uuid, text, text), public.list_recognitions(uuid, uuid, text, int, text)
to tallybook_functions, service_role;
grant execute on function
  public.award_to_user(uuid, uuid, numeric, text, uuid, text, text), public.revoke_recognition(uuid, uuid, text, uuid, text, text)
to tallybook_operator;
-- Reading: statistics for members, the logs for managers, numbers for whoever watches.

revoke all on public.tenant_balances_below_zero, public.tenant_large_allocations from public, anon, authenticated, service_role;
grant select on public.tenant_balances_below_zero, public.tenant_large_allocations to service_role, tallybook_operator;

revoke all on function
  internal.managed_tenant(uuid, uuid),
  internal.tenant_log_page(text, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.tenant_allocation_stats(uuid, uuid),
  public.allocation_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.platform_billing_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.wallet_ledger_page(
    uuid, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.points_ledger_stats(uuid, uuid, timestamptz, timestamptz), public.allocation_metrics(int, int)
from public, anon, authenticated, service_role;

grant execute on function
  internal.membership(uuid, uuid), internal.managed_tenant(uuid, uuid),
  internal.tenant_log_page(text, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean)
to tallybook_upkeep;

alter function public.tenant_allocation_stats(uuid, uuid) owner to tallybook_procedures;
alter function public.allocation_logs_page(
  uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean) owner to tallybook_upkeep;
alter function public.platform_billing_logs_page(
  uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean) owner to tallybook_upkeep;
alter function public.wallet_ledger_page(
  uuid, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean)
owner to tallybook_upkeep;
alter function public.points_ledger_stats(uuid, uuid, timestamptz, timestamptz) owner to tallybook_upkeep;
alter function public.allocation_metrics(int, int) owner to tallybook_upkeep;

grant execute on function
  public.tenant_allocation_stats(uuid, uuid),
  public.allocation_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.platform_billing_logs_page(uuid, uuid, text, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.wallet_ledger_page(
    uuid, uuid, text, text, uuid, text, numeric, numeric, timestamptz, timestamptz, text, text, int, int, text, boolean),
  public.points_ledger_stats(uuid, uuid, timestamptz, timestamptz), public.allocation_metrics(int, int)
to tallybook_functions, service_role;

-- policies/80_operations.sql

-- Operating: the audit of migrations, and what must agree.

revoke all on public.migration_audit, ledger.discrepancies from public, anon, authenticated, service_role;
grant select, insert on public.migration_audit to tallybook_operator;
grant select on ledger.discrepancies to tallybook_operator;

alter table public.migration_audit enable row level security;
alter table public.migration_audit force row level security;

drop policy if exists "an operator keeps the audit of migrations" on public.migration_audit;
create policy "an operator keeps the audit of migrations" on public.migration_audit to tallybook_operator using (true);

revoke all on function public.readiness() from public, anon, authenticated, service_role;
alter function public.readiness() owner to tallybook_upkeep;
grant execute on function public.readiness() to service_role, tallybook_functions, tallybook_worker, tallybook_operator;

revoke all on function
  public.report_events_by_status(interval), public.report_rejections_by_type(interval), public.report_coupons_by_status(interval),
  public.report_templates(interval), public.report_totals(), public.report_balance_audit(), public.report_coupon_codes(),
  public.report_queue(), public.report_stuck_events(interval, int), public.report_balance(uuid),
  public.report_insights_by_type(interval), public.report_damage(timestamptz), public.report_history(uuid, int, timestamptz, uuid),
  public.suspend_points(uuid, text, text, text), public.resume_points(uuid, text, text, text), public.schedule_upkeep(text),
  public.record_migration(text, text, text, boolean, text, text, text)
from public, anon, authenticated, service_role;

grant execute on function
  public.report_events_by_status(interval), public.report_rejections_by_type(interval), public.report_coupons_by_status(interval),
  public.report_templates(interval), public.report_totals(), public.report_balance_audit(), public.report_coupon_codes(),
  public.report_queue(), public.report_stuck_events(interval, int), public.report_balance(uuid),
  public.report_insights_by_type(interval), public.report_damage(timestamptz), public.report_history(uuid, int, timestamptz, uuid)
to tallybook_operator;
grant execute on function public.schedule_upkeep(text), public.record_migration(text, text, text, boolean, text, text, text)
to tallybook_operator;

alter function public.suspend_points(uuid, text, text, text) owner to tallybook_upkeep;
alter function public.resume_points(uuid, text, text, text) owner to tallybook_upkeep;
grant execute on function public.suspend_points(uuid, text, text, text), public.resume_points(uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant select on public.audit_log to tallybook_upkeep;
grant update on public.coupon_templates to tallybook_upkeep;

drop policy if exists "upkeep reads what was suspended" on public.audit_log;
create policy "upkeep reads what was suspended" on public.audit_log for select to tallybook_upkeep
  using (action in ('points.suspend', 'points.resume'));
drop policy if exists "upkeep takes offers away and back" on public.coupon_templates;
create policy "upkeep takes offers away and back" on public.coupon_templates for update to tallybook_upkeep using (true);

revoke all on function
  public.report_credit_balances(), public.report_credit_usage(interval), public.report_credit_low_balances(int),
  public.report_credit_unusual_spending(int), public.report_credit_failure_spikes()
from public, anon, authenticated, service_role;
grant execute on function
  public.report_credit_balances(), public.report_credit_usage(interval), public.report_credit_low_balances(int),
  public.report_credit_unusual_spending(int), public.report_credit_failure_spikes()
to tallybook_operator;

revoke all on function
  public.report_tenant_totals(), public.report_tenant_balances(int), public.report_tenants_below_zero(), public.report_tenant_audit(),
  public.report_allocations(uuid, int), public.report_billing(uuid, int), public.report_allocations_by_day(interval),
  public.report_allocations_by_week(interval), public.report_top_tenants(int, interval), public.report_clawbacks(interval),
  public.report_large_allocations(interval, numeric), public.report_usage_by_tenant(interval)
from public, anon, authenticated, service_role;
grant execute on function
  public.report_tenant_totals(), public.report_tenant_balances(int), public.report_tenants_below_zero(), public.report_tenant_audit(),
  public.report_allocations(uuid, int), public.report_billing(uuid, int), public.report_allocations_by_day(interval),
  public.report_allocations_by_week(interval), public.report_top_tenants(int, interval), public.report_clawbacks(interval),
  public.report_large_allocations(interval, numeric), public.report_usage_by_tenant(interval)
to tallybook_operator;

-- policies/99_last.sql

-- Takes back what the owners needed only while functions were handed to them.

revoke create on schema public, internal from tallybook_procedures, tallybook_upkeep;

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

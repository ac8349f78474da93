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

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

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

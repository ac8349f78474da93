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

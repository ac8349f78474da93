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

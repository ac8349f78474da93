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

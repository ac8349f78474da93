-- The user behind a user id or an e-mail address, as an administrator types it. It belongs to whoever migrates, and to no role
-- of ours, because a hosted auth.users is open to that role alone. Where it may not be read, only ids are understood.
--
-- Refuses: user_not_found.

create or replace function internal.user_of_account(p_account text)
returns uuid
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_user_id uuid;
begin
  if p_account ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    return p_account::uuid;
  end if;
  begin
    select u.id into v_user_id from auth.users as u where lower(u.email) = lower(p_account) order by u.created_at limit 1;
  exception when insufficient_privilege then
    v_user_id := null;
  end;
  if v_user_id is null then
    perform internal.refuse('user_not_found', format('account: nobody is known as %s', p_account));
  end if;
  return v_user_id;
end
$$;

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

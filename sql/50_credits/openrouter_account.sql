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

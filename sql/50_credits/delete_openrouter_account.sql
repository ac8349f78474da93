-- Forgets a user's account at OpenRouter and the key with it.
--
-- Replay:  refused: there is none any more.
-- Locks:   the user's row.
-- Refuses: account_not_found.

create or replace function public.delete_openrouter_account(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform internal.act_for(array[p_user_id]);
  delete from public.openrouter_accounts as a where a.user_id = p_user_id;
  if not found then
    perform internal.refuse('account_not_found', 'No account at OpenRouter is connected.');
  end if;
  return jsonb_build_object('connected', false);
end
$$;

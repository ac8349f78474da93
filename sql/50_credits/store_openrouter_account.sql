-- Keeps a user's key for OpenRouter, encrypted, in the place of the one they had. Whoever calls has shown it to OpenRouter first and tells
-- what that said of the account. The key can be read with ENCRYPTION_KEY only, which the database never has.
--
-- Replay:  the same key again is stored again.
-- Locks:   the user's row.
-- Refuses: invalid_body.

create or replace function public.store_openrouter_account(
  p_user_id                      uuid,
  p_openrouter_api_key_encrypted text,
  p_key_id                       text,
  p_openrouter_account_id        text default null,
  p_free_credits                 numeric default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_account public.openrouter_accounts;
begin
  perform internal.act_for(array[p_user_id]);
  perform internal.check_encrypted(coalesce(p_openrouter_api_key_encrypted, ''), p_key_id);
  insert into public.openrouter_accounts as a (
    user_id, openrouter_api_key_encrypted, key_id, openrouter_account_id, free_credits, last_synced, created_at, updated_at)
  values (p_user_id, p_openrouter_api_key_encrypted, p_key_id, p_openrouter_account_id, p_free_credits, v_now, v_now, v_now)
  on conflict (user_id) do update
     set openrouter_api_key_encrypted = excluded.openrouter_api_key_encrypted, key_id = excluded.key_id,
         openrouter_account_id = excluded.openrouter_account_id, free_credits = excluded.free_credits,
         last_synced = excluded.last_synced, updated_at = excluded.updated_at
  returning a.* into v_account;
  return internal.openrouter_answer(v_account);
end
$$;

-- Notes what OpenRouter said of a user's account. It was asked with the key that was stored as p_seen: when another is stored by now, what
-- it said is about another key, and nothing is noted. With p_reencrypted the same key is stored as encrypted under a newer one.
--
-- Replay:  noted again, unless the first one encrypted the key anew: then nothing is.
-- Locks:   the user's row.
-- Refuses: invalid_body, account_not_found.

create or replace function public.note_openrouter_sync(
  p_user_id               uuid,
  p_seen                  text,
  p_openrouter_account_id text,
  p_free_credits          numeric,
  p_reencrypted           text default null,
  p_key_id                text default null
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
  perform internal.check_encrypted(p_reencrypted, p_key_id);
  update public.openrouter_accounts as a
     set openrouter_account_id = p_openrouter_account_id, free_credits = p_free_credits, last_synced = v_now, updated_at = v_now,
         openrouter_api_key_encrypted = coalesce(p_reencrypted, a.openrouter_api_key_encrypted), key_id = coalesce(p_key_id, a.key_id)
   where a.user_id = p_user_id and a.openrouter_api_key_encrypted = p_seen
  returning a.* into v_account;
  if v_account.user_id is null then
    return public.openrouter_account(p_user_id);
  end if;
  return internal.openrouter_answer(v_account);
end
$$;

-- What is told of a user's account at OpenRouter: everything but the key.

create or replace function internal.openrouter_answer(p_account public.openrouter_accounts)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'connected', true, 'openrouter_account_id', p_account.openrouter_account_id,
    'free_credits', internal.credits_json(p_account.free_credits), 'last_synced', p_account.last_synced,
    'updated_at', p_account.updated_at);
end
$$;

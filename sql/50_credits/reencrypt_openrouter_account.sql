-- Stores a user's key for OpenRouter as encrypted under a newer key, if it is still the one that was read: for whoever rotates all of them.
-- Nothing else about the account changes. The answer's "rotated" says whether it was stored.
--
-- Replay:  "rotated" is false: what was read is not stored any more.
-- Locks:   the user's row.
-- Refuses: invalid_body.

create or replace function public.reencrypt_openrouter_account(p_user_id uuid, p_seen text, p_reencrypted text, p_key_id text)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
begin
  perform internal.act_for(array[p_user_id]);
  perform internal.check_encrypted(coalesce(p_reencrypted, ''), p_key_id);
  update public.openrouter_accounts as a
     set openrouter_api_key_encrypted = p_reencrypted, key_id = p_key_id, updated_at = internal.clock()
   where a.user_id = p_user_id and a.openrouter_api_key_encrypted = p_seen;
  return jsonb_build_object('rotated', found);
end
$$;

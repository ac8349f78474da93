-- The public key that a registered device signs with, which never changes; null in its place when there is none. Whether the key still
-- counts is settled with the request that it signed.

create or replace function public.device_public_key(p_user_id uuid, p_key_id text)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return jsonb_build_object('public_key', (select k.public_key from public.device_keys as k where k.key_id = p_key_id));
end
$$;

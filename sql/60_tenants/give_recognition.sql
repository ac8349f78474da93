-- Recognizes one or many members of the caller's tenant, with points or without: internal.give_recognition_batch for one request.
-- Returns {recognition_id, points, recipients: [{user_id, points, new_wallet_balance, ledger_entry_id}], funded_by,
-- tenant_remaining_pool, status}. Points are each recipient's, or with the split 'equal' all of theirs together; an award tier says
-- how many in the tenant's own words.
--
-- Replay, Locks, Refuses: as internal.give_recognition_batch.

create or replace function public.give_recognition(
  p_user_id          uuid,
  p_recipients       uuid[],
  p_points           numeric default null,
  p_message          text default null,
  p_recognition_type text default 'standard',
  p_award_tier       text default null,
  p_split            text default 'flat',
  p_visibility       text default 'public',
  p_tenant_id        uuid default null,
  p_idempotency_key  text default null,
  p_request_id       text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.give_recognition_batch(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
           'user_id', p_user_id, 'recipients', p_recipients, 'points', p_points, 'message', p_message,
           'recognition_type', p_recognition_type, 'award_tier', p_award_tier, 'split', p_split, 'visibility', p_visibility,
           'tenant_id', p_tenant_id, 'idempotency_key', p_idempotency_key, 'request_id', p_request_id)))) as o;
  return internal.single(v_outcome);
end
$$;

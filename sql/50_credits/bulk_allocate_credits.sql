-- Gives credits to up to 1,000 users at once: an array of {user_id (an id or an e-mail address), amount, reason, source,
-- priority, expires_at, idempotency_key}, of which the first two are needed. Each is done or refused by itself. Returns
-- {success_count, failed_count, results, accounts}; results tells of each, in order and counted from 1, {position, user_id as it
-- came, and transaction_id, new_balance or code, detail}.
--
-- Replay:  an allocation under a key of its user's is answered as the first time, with "replayed"; one without a key is a new one.
-- Locks:   internal.lock_credits of all of them.
-- Refuses: forbidden, invalid_body; in place: reason_required, invalid_amount, invalid_body, user_not_found, own_event,
--          nonce_reused, insufficient_credits.

create or replace function public.bulk_allocate_credits(
  p_user_id          uuid,
  p_allocations      jsonb,
  p_reason           text default null,
  p_transaction_type text default 'bonus',
  p_actor            text default null,
  p_request_id       text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_outcomes internal.outcome[];
begin
  if p_allocations is null or jsonb_typeof(p_allocations) <> 'array' then
    perform internal.refuse('invalid_body', 'allocations: must be an array');
  elsif jsonb_array_length(p_allocations) not between 1 and 1000 then
    perform internal.refuse('invalid_body', 'allocations: must be 1 to 1000');
  end if;

  v_outcomes := array(
    select o from internal.allocate_credits_batch(p_user_id, p_allocations, p_reason, p_transaction_type, v_actor, p_request_id) as o);

  return (
    select jsonb_build_object(
             'success_count', count(o.answer), 'failed_count', count(o.refusal),
             'results', jsonb_agg(
               jsonb_build_object('position', o."position", 'user_id', p_allocations -> (o."position" - 1) -> 'user_id')
                 || coalesce(o.answer - 'user_id', jsonb_build_object('code', o.refusal -> 'code', 'detail', o.refusal -> 'detail'))
               order by o."position"),
             'accounts', coalesce((
               select jsonb_agg(internal.credit_account(u.user_id))
                 from (select distinct (x.answer ->> 'user_id')::uuid as user_id from unnest(v_outcomes) as x where x.answer is not null) as u), '[]'))
      from unnest(v_outcomes) as o);
end
$$;

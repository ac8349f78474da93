-- Gives credits to users, or takes some by an adjustment, each allocation by itself: {user_id (an id or an e-mail address),
-- amount, reason, source, priority, expires_at, idempotency_key}. What it answers or refuses stands in the allocation's place.
--
-- Replay:  under a key of the user's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_credits of all who get or lose any.
-- Refuses: invalid_body, reason_required, invalid_amount, user_not_found, own_event, nonce_reused, insufficient_credits.

create or replace function internal.allocate_credits_batch(
  p_user_id          uuid,
  p_allocations      jsonb,
  p_reason           text,
  p_transaction_type text,
  p_actor            text,
  p_request_id       text
)
returns setof internal.outcome
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_users uuid[];
  v_entries jsonb;  -- the allocations as they are understood, each with its refusal
  v_new int[];      -- those that are neither refused nor replays
  v_sign int;
  v_set int[];
  v_moves internal.credit_movement[];
  v_moved jsonb := jsonb_build_array();
begin
  if p_transaction_type is null or p_transaction_type not in ('bonus', 'purchase', 'adjustment', 'allocation') then
    perform internal.refuse('invalid_body', 'transaction_type: must be bonus, purchase, adjustment or allocation');
  end if;

  v_users := internal.users_of_accounts(array(
    select a.entry ->> 'user_id' from jsonb_array_elements(p_allocations) with ordinality as a(entry, "position") order by a."position"));

  select jsonb_agg(to_jsonb(p) || jsonb_build_object(
           'hash', internal.request_hash(jsonb_build_object(
             'allocate', p_transaction_type, 'amount', trim_scale(p.amount), 'reason', p.reason, 'source', p.source,
             'priority', p.priority, 'expires_at', p.expires_at)),
           'refusal', case
             when jsonb_typeof(p.entry) <> 'object' then internal.refusal('invalid_body', 'allocations: each must be an object')
             when coalesce(p.reason, '') !~ '\S' then internal.refusal('reason_required', 'reason: must say why')
             when p.amount is null or p.amount = 0 then internal.refusal('invalid_amount', 'amount: must be a number other than zero')
             when p.amount < 0 and p_transaction_type <> 'adjustment' then
               internal.refusal('invalid_amount', 'amount: must be greater than zero; only an adjustment takes credits')
             when scale(trim_scale(p.amount)) > 6 then internal.refusal('invalid_amount', 'amount: must have at most six decimal places')
             when abs(p.amount) > 1000000000 then internal.refusal('invalid_amount', 'amount: must be at most 1000000000')
             when p.source !~ '^[a-z][a-z_]{0,62}$' then
               internal.refusal('invalid_body', 'source: must be a word of small letters and underscores')
             when p.priority is null and p.entry ->> 'priority' is not null then
               internal.refusal('invalid_body', 'priority: must be a whole number')
             when p.expires_at is null and p.entry ->> 'expires_at' is not null then
               internal.refusal('invalid_body', 'expires_at: must be a time')
             when length(p.idempotency_key) not between 1 and 200 then
               internal.refusal('invalid_body', 'idempotency_key: must have 1 to 200 characters')
             when internal.is_system_key(p.idempotency_key) then
               internal.refusal('invalid_body', 'idempotency_key: must not begin with purchase: or allocation:')
             when p.user_id is null then
               internal.refusal('user_not_found', format('account: nobody is known as %s', coalesce(p.entry ->> 'user_id', 'null')))
             when p.user_id = p_user_id then
               internal.refusal('own_event', 'account: nobody allocates credits to themselves')
           end))
    into v_entries
    from (
      select a."position", a.entry, v_users[a."position"] as user_id,
             case when jsonb_typeof(a.entry -> 'amount') = 'number' or a.entry ->> 'amount' ~ '^-?\d{1,18}(\.\d{1,18})?$'
                  then (a.entry ->> 'amount')::numeric end as amount,
             coalesce(a.entry ->> 'reason', p_reason) as reason, a.entry ->> 'source' as source,
             case when a.entry ->> 'priority' ~ '^-?\d{1,9}$' then (a.entry ->> 'priority')::int end as priority,
             internal.parsed_time(a.entry ->> 'expires_at') as expires_at, a.entry ->> 'idempotency_key' as idempotency_key
        from jsonb_array_elements(p_allocations) with ordinality as a(entry, "position")) as p;

  v_users := array(
    select distinct e.user_id from jsonb_to_recordset(v_entries) as e(user_id uuid, refusal jsonb) where e.refusal is null);
  perform internal.lock_credits(v_users);
  perform internal.expire_credit_lots(v_users);

  -- Of those under one key in this call, the first counts. No account ever gets more than its columns hold, and room is left
  -- for what comes by other ways. What was done stays done, also when what it brought has ended since.
  select array_agg(n."position") filter (where n.is_first and not n.is_too_much),
         jsonb_agg(to_jsonb(n) || jsonb_build_object('refusal', case
           when n.is_late then internal.refusal('invalid_body', 'expires_at: must lie in the future')
           when n.is_first and n.is_too_much then internal.refusal('invalid_amount', 'amount: no account holds as much')
           else n.refusal end) order by n."position")
    into v_new, v_entries
    from (
      select e.*, l.is_late, e.refusal is null and t.id is null and not l.is_late and row_number() over (
               partition by e.refusal is null, l.is_late, e.user_id, e.idempotency_key is null,
                            coalesce(e.idempotency_key, e."position"::text)
               order by e."position") = 1 as is_first,
             (c.credits_allocated > 900000000000 - sum(e.amount) filter (where e.refusal is null and e.amount > 0) over (
               partition by e.user_id order by e."position")) is true as is_too_much
        from jsonb_to_recordset(v_entries) as e(
               "position" int, user_id uuid, amount numeric, reason text, source text, priority int, expires_at timestamptz,
               idempotency_key text, hash text, refusal jsonb, entry jsonb)
        left join lateral (select x.credits_allocated from public.user_credits as x where x.user_id = e.user_id limit 1) as c on true
        left join lateral (
             select x.id from public.credit_transactions as x
              where x.user_id = e.user_id and x.idempotency_key = e.idempotency_key limit 1) as t on true
       cross join lateral (
             select (e.refusal is null and t.id is null and e.expires_at <= v_now) is true as is_late) as l) as n;

  -- A set of movements has one direction: what comes is there for what goes.
  foreach v_sign in array array[1, -1] loop
    select array_agg(e."position" order by e."position"),
           array_agg(internal.credit_move(
             e.user_id, e.amount, p_transaction_type, p_reason => e.reason, p_idempotency_key => e.idempotency_key,
             p_request_hash => e.hash, p_actor => p_actor, p_request_id => p_request_id, p_source => e.source,
             p_priority => e.priority, p_expires_at => e.expires_at) order by e."position")
      into v_set, v_moves
      from jsonb_to_recordset(v_entries) as e(
             "position" int, user_id uuid, amount numeric, reason text, source text, priority int, expires_at timestamptz,
             idempotency_key text, hash text)
     where e."position" = any (v_new) and sign(e.amount) = v_sign;
    if v_set is not null then
      v_moved := v_moved || (
        select coalesce(jsonb_agg(jsonb_build_object('position', v_set[o."position"], 'id', o.id))
                        filter (where o.outcome = 'posted'), '[]')
          from internal.move_credits(v_moves) as o);
    end if;
  end loop;

  perform internal.audit(
            p_actor, 'credits.allocate', 'user', t.user_id::text, t.reason,
            jsonb_build_object('balance', internal.credits_json(t.balance_after - t.amount)),
            jsonb_build_object('balance', internal.credits_json(t.balance_after), 'amount', internal.credits_json(t.amount),
              'transaction_type', t.transaction_type, 'transaction_id', t.id), p_request_id)
     from jsonb_to_recordset(v_moved) as m("position" int, id uuid)
     join jsonb_to_recordset(v_entries) as e("position" int, user_id uuid) on e."position" = m."position"
    cross join lateral (select x.* from public.credit_transactions as x where x.user_id = e.user_id and x.id = m.id limit 1) as t;

  return query
    select e."position",
           case when e.refusal is null and t.request_hash = e.hash then
             jsonb_build_object('user_id', e.user_id, 'transaction_id', t.id, 'new_balance', internal.credits_json(t.balance_after))
               || case when m.id is null then '{"replayed": true}' else '{}' end::jsonb end,
           case when e.refusal is not null then e.refusal
                when t.id is null then internal.refusal('insufficient_credits', format(
                  'Insufficient credits. Balance: %s, Required: %s', internal.credits_text(coalesce((
                    select (a.balance - a.held - a.floor) / 1000000.0 from ledger.accounts as a
                     where a.book_id = e.user_id and a.account = 'credits'), 0)), internal.credits_text(-e.amount)))
                when t.request_hash is distinct from e.hash
                  then internal.refusal('nonce_reused', 'idempotency_key: it came with another request before') end
      from jsonb_to_recordset(v_entries) as e(
             "position" int, user_id uuid, amount numeric, idempotency_key text, hash text, refusal jsonb)
      left join jsonb_to_recordset(v_moved) as m("position" int, id uuid) on m."position" = e."position"
      left join lateral (
           select x.id, x.request_hash, x.balance_after from public.credit_transactions as x
            where x.user_id = e.user_id and x.id = m.id
           union all
           select x.id, x.request_hash, x.balance_after from public.credit_transactions as x
            where m.id is null and x.user_id = e.user_id and x.idempotency_key = e.idempotency_key
           limit 1) as t on true
     order by e."position";
end
$$;

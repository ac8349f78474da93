-- A page of a user's statement, the newest first: {transactions, next_cursor}. A cursor leads on from where a page ended,
-- whatever came meanwhile; it is the last transaction's time and id, and null at the end. The end date is not included.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function public.credit_transactions_page(
  p_user_id    uuid,
  p_type       text default null,
  p_start_date timestamptz default null,
  p_end_date   timestamptz default null,
  p_limit      int default 50,
  p_offset     int default 0,
  p_cursor     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_limit int := coalesce(p_limit, 50);
  v_offset int := coalesce(p_offset, 0);
  v_bytes bytea;
  v_microseconds bigint;
  -- In variables, because a condition that calls a function is no index condition under row-level security.
  v_before timestamptz := timestamptz 'infinity';
  v_before_id uuid := uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_start timestamptz := coalesce(p_start_date, '-infinity');
  v_end timestamptz := coalesce(p_end_date, 'infinity');
  v_page public.credit_transactions[];
begin
  perform internal.act_for(array[p_user_id]);
  if p_type not in ('usage', 'purchase', 'bonus', 'refund', 'adjustment', 'allocation', 'expiry') then
    perform internal.refuse('invalid_body',
      'type: must be usage, purchase, bonus, refund, adjustment, allocation or expiry');
  elsif v_limit not between 1 and 10000 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 10000');
  elsif v_offset not between 0 and 10000 then
    perform internal.refuse('invalid_body', 'offset: must be 0 to 10000');
  end if;

  if p_cursor is not null then
    -- 24 bytes, and so 32 characters: the time in microseconds, and the id.
    if p_cursor ~ '^[A-Za-z0-9_-]{32}$' then
      v_bytes := decode(translate(p_cursor, '-_', '+/'), 'base64');
      v_microseconds := ('x' || encode(substring(v_bytes for 8), 'hex'))::bit(64)::bigint;
    end if;
    if v_microseconds is null or v_microseconds not between 0 and 9000000000000000 then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave');
    end if;
    v_before := 'epoch'::timestamptz + v_microseconds * interval '1 microsecond';
    v_before_id := encode(substring(v_bytes from 9), 'hex')::uuid;
  end if;

  -- Two ways in, each by an index of its own: a rare type is not looked for among all that there is.
  -- Both bring the order along, and nothing may be sorted: a planner that takes the user for one with few transactions
  -- would read them all. The second names the type in its order, and not as the one value that it is, for the same reason.
  if p_type is null then
    v_page := array(
      select x
        from public.credit_transactions as x
       where x.user_id = p_user_id and (x.created_at, x.id) < (v_before, v_before_id)
         and x.created_at >= v_start and x.created_at < v_end
       order by x.created_at desc, x.id desc
       limit v_limit + 1 offset v_offset);
  else
    v_page := array(
      select x
        from public.credit_transactions as x
       where x.user_id = p_user_id and x.transaction_type = any (array[p_type]) and (x.created_at, x.id) < (v_before, v_before_id)
         and x.created_at >= v_start and x.created_at < v_end
       order by x.transaction_type, x.created_at desc, x.id desc
       limit v_limit + 1 offset v_offset);
  end if;

  return jsonb_build_object(
    'transactions', coalesce((
      select jsonb_agg(internal.credit_transaction_json(t) order by t.created_at desc, t.id desc) from unnest(v_page[:v_limit]) as t), '[]'),
    'next_cursor', case when cardinality(v_page) > v_limit then translate(encode(
      int8send((extract(epoch from v_page[v_limit].created_at) * 1000000)::bigint) || uuid_send(v_page[v_limit].id), 'base64'), '+/', '-_') end);
end
$$;

-- A page of one of the three logs of tenants: {items, next_cursor}, and total where it is wanted: null beyond 10,000.
-- A cursor leads on from where a page ended, whatever came meanwhile: the sort, the last row's time or amount, and its ids;
-- null at the end. The end date is not included. Without a tenant: of all of them.
-- The query is put together from what is asked, so that each gets the index of its own order. Only words from here go into
-- it; what a caller says goes into its parameters.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: invalid_body.

create or replace function internal.tenant_log_page(
  p_log        text,  -- 'allocation_logs' | 'platform_billing_logs' | 'wallet_ledger'
  p_tenant_id  uuid,
  p_status     text,  -- what the log calls its status or its type
  p_source     text,
  p_member_id  uuid,
  p_search     text,
  p_amount_min numeric,
  p_amount_max numeric,
  p_start_date timestamptz,
  p_end_date   timestamptz,
  p_sort       text,
  p_direction  text,
  p_page       int,
  p_limit      int,
  p_cursor     text,
  p_with_total boolean
)
returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_total_max constant int := 10000;
  v_is_wallet boolean := p_log = 'wallet_ledger';
  v_by_amount boolean := coalesce(p_sort, 'created_at') = 'amount';
  v_descends boolean := coalesce(p_direction, 'desc') = 'desc';
  v_limit int := coalesce(p_limit, 25);
  v_page int := coalesce(p_page, 1);
  v_amount text := case p_log when 'wallet_ledger' then 'points' else 'amount' end;
  v_key text;    -- what the page is in the order of
  v_where text;
  v_item text;
  v_bytes bytea;
  v_mark bytea;  -- two letters, so that a cursor leads on in its own order only
  v_last bigint;
  v_named uuid[];
  v_answer jsonb;
  v_total int;
begin
  if coalesce(p_sort, 'created_at') not in ('created_at', 'amount') then
    perform internal.refuse('invalid_body', 'sort: must be created_at or amount');
  elsif coalesce(p_direction, 'desc') not in ('asc', 'desc') then
    perform internal.refuse('invalid_body', 'direction: must be asc or desc');
  elsif v_limit not between 1 and 10000 then
    perform internal.refuse('invalid_body', 'limit: must be 1 to 10000');
  elsif v_page < 1 or (v_page - 1)::bigint * v_limit > v_total_max then
    perform internal.refuse('invalid_body', 'page: lies beyond the 10000th row; go on by next_cursor');
  elsif p_cursor is not null and v_page > 1 then
    perform internal.refuse('invalid_body', 'cursor: says already where the page begins');
  elsif v_by_amount and v_is_wallet and p_tenant_id is null then
    perform internal.refuse('invalid_body', 'sort: wallets are sorted by amount for one tenant at a time');
  end if;

  v_mark := convert_to(case when v_by_amount then 'a' else 'c' end || case when v_descends then 'd' else 'u' end, 'UTF8');
  if p_cursor is not null then
    if p_cursor ~ '^[A-Za-z0-9_-]{56}$' then
      v_bytes := decode(translate(p_cursor, '-_', '+/'), 'base64');
      v_last := ('x' || encode(substring(v_bytes from 3 for 8), 'hex'))::bit(64)::bigint;
    end if;
    if v_bytes is null or substring(v_bytes for 2) <> v_mark or v_last not between -9000000000000000 and 9000000000000000 then
      perform internal.refuse('invalid_body', 'cursor: must be what a page before gave, in the same order');
    end if;
  end if;

  v_key := case when v_by_amount then 'x.' || v_amount else 'x.created_at' end;
  if p_search is not null then
    -- By name: of a tenant among all, of a person in one.
    if p_tenant_id is null then
      v_named := array(select t.id from public.tenants as t where strpos(lower(t.name), lower(p_search)) > 0);
    elsif v_is_wallet then
      v_named := array(
        select m.user_id from public.tenant_members as m
         where m.tenant_id = p_tenant_id and strpos(lower(m.display_name), lower(p_search)) > 0);
    end if;
  end if;

  v_where := concat_ws(' and ', 'true',
    case when p_tenant_id is not null then 'x.tenant_id = $1' end,
    case when p_status is not null then
      case p_log when 'allocation_logs' then 'x.status = $2' else 'x.transaction_type = $2' end end,
    case when p_source is not null then 'x.source = $3' end,
    case when p_member_id is not null then 'x.user_id = $4' end,
    case when p_search is not null then
      case when v_is_wallet then '(strpos(lower(x.description), lower($5)) > 0'
           else '(strpos(lower(concat_ws('' '', x.reference_note, x.actor)), lower($5)) > 0' end
      || case when p_tenant_id is null then ' or x.tenant_id = any ($6))'
              when v_is_wallet then ' or x.user_id = any ($6))' else ')' end end,
    case when p_amount_min is not null then format('x.%I >= $7', v_amount) end,
    case when p_amount_max is not null then format('x.%I <= $8', v_amount) end,
    case when p_start_date is not null then 'x.created_at >= $9' end,
    case when p_end_date is not null then 'x.created_at < $10' end);

  if coalesce(p_with_total, false) then
    execute format('select count(*) from (select from public.%I as x where %s limit $11) as c', p_log, v_where)
       into v_total
      using p_tenant_id, p_status, p_source, p_member_id, p_search, v_named, p_amount_min, p_amount_max, p_start_date, p_end_date,
            v_total_max + 1;
  end if;

  v_item := case p_log
    when 'allocation_logs' then
      '''allocated_by'', p.allocated_by, ''actor'', p.actor, ''amount'', internal.points_text(p.amount), ''currency'', p.currency,'
      || ' ''status'', p.status, ''reversed_amount'', internal.points_text(p.reversed_amount), ''reference_note'', p.reference_note,'
      || ' ''expires_at'', p.expires_at'
    when 'platform_billing_logs' then
      '''admin_id'', p.admin_id, ''actor'', p.actor, ''amount'', internal.points_text(p.amount), ''currency'', p.currency,'
      || ' ''transaction_type'', p.transaction_type, ''reference_note'', p.reference_note, ''allocation_id'', p.allocation_id'
    else
      '''wallet_id'', p.wallet_id, ''user_id'', p.user_id, ''transaction_type'', p.transaction_type, ''source'', p.source,'
      || ' ''points'', internal.points_text(p.points), ''balance_after'', internal.points_text(p.balance_after),'
      || ' ''reference_type'', p.reference_type, ''reference_id'', p.reference_id, ''description'', p.description,'
      || ' ''created_by'', p.created_by' end;

  execute format(
    $q$
    with page as materialized (
      select row_number() over (order by %1$s %2$s, x.id %2$s %3$s) as n, x.*
        from public.%4$I as x
       where %5$s %6$s
       order by %1$s %2$s, x.id %2$s %3$s
       limit $11 + 1 offset $12
    )
    select jsonb_build_object(
             'items', coalesce(jsonb_agg(jsonb_build_object(
                        'id', p.id, 'tenant_id', p.tenant_id, 'tenant_name', t.name, 'created_at', p.created_at, %7$s)
                        order by p.n) filter (where p.n <= $11 + $12), '[]'),
             'next_cursor', case when count(*) > $11 then
                translate(max(encode($13 || int8send(%8$s) || uuid_send(p.id) || uuid_send(%9$s), 'base64'))
                  filter (where p.n = $11 + $12), '+/', '-_') end)
      from page as p
      left join public.tenants as t on t.id = p.tenant_id
    $q$,
    v_key,
    case when v_descends then 'desc' else 'asc' end,
    -- What went from wallet to wallet has one id in both statements.
    case when v_is_wallet then case when v_descends then ', x.user_id desc' else ', x.user_id asc' end end,
    p_log,
    v_where,
    case when p_cursor is not null then
      format('and (%s, x.id%s) %s (%s, $15%s)', v_key, case when v_is_wallet then ', x.user_id' end,
             case when v_descends then '<' else '>' end,
             case when v_by_amount then '$17' else '$14' end,
             case when v_is_wallet then ', $16' end) end,
    v_item,
    case when v_by_amount then format('(p.%I * 100)::bigint', v_amount)
         else '(extract(epoch from p.created_at) * 1000000)::bigint' end,
    case when v_is_wallet then 'p.user_id' else '''00000000-0000-0000-0000-000000000000''::uuid' end)
     into v_answer
    using p_tenant_id, p_status, p_source, p_member_id, p_search, v_named, p_amount_min, p_amount_max, p_start_date, p_end_date,
          v_limit, (v_page - 1) * v_limit, v_mark, 'epoch'::timestamptz + v_last * interval '1 microsecond',
          encode(substring(v_bytes from 11 for 16), 'hex')::uuid, encode(substring(v_bytes from 27 for 16), 'hex')::uuid, v_last / 100.0;

  if coalesce(p_with_total, false) then
    v_answer := v_answer || jsonb_build_object('total', case when v_total <= v_total_max then v_total end);
  end if;
  return v_answer;
end
$$;

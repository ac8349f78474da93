-- Gives points of the platform to tenants' pools, each allocation by itself: {tenant_id, amount, currency, reference_note,
-- idempotency_key}. What it answers or refuses stands in the allocation's place. An allocation is a lot of the pool, which
-- ends as the tenant's policy says.
--
-- Replay:  under a key of the tenant's the same allocation is answered as the first time, with "replayed", for ever.
-- Locks:   internal.lock_pools; then internal.allocations_limit_detail's; then the cache rows.
-- Refuses: rate_limited, the whole; in place: invalid_body, invalid_amount, tenant_not_found, nonce_reused.

create or replace function internal.allocate_to_tenants(
  p_user_id          uuid,
  p_allocations      jsonb,
  p_reference_note   text,
  p_ip_address       inet,
  p_transaction_type text,
  p_actor            text,
  p_request_id       text
)
returns setof internal.outcome
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'  -- a day has 24 hours, in whatever zone somebody looks
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_entries jsonb;  -- the allocations as they are understood, each with its refusal
  v_new int[];      -- those that are neither refused nor replays
  v_limit text;
begin
  select jsonb_agg(to_jsonb(p) || jsonb_build_object(
           'id', internal.uuidv7(), 'bill_id', internal.uuidv7(),
           'hash', internal.request_hash(jsonb_build_object(
             'allocate', trim_scale(p.amount), 'currency', p.currency, 'reference_note', p.reference_note)),
           'refusal', case
             when jsonb_typeof(p.entry) <> 'object' then internal.refusal('invalid_body', 'allocations: each must be an object')
             when p.tenant_id is null then internal.refusal('invalid_body', 'tenant_id: must be an id')
             when length(p.idempotency_key) not between 1 and 200 then
               internal.refusal('invalid_body', 'idempotency_key: must have 1 to 200 characters')
             when t.id is null then internal.refusal('tenant_not_found')
             when p.currency <> t.currency then internal.refusal('invalid_body', format('currency: the tenant''s is %s', t.currency))
             else internal.points_refusal(p.amount) end) order by p."position")
    into v_entries
    from (
      select a."position", a.entry,
             case when a.entry ->> 'tenant_id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                  then (a.entry ->> 'tenant_id')::uuid end as tenant_id,
             case when jsonb_typeof(a.entry -> 'amount') = 'number' or a.entry ->> 'amount' ~ '^-?\d{1,18}(\.\d{1,18})?$'
                  then (a.entry ->> 'amount')::numeric end as amount,
             a.entry ->> 'currency' as currency, coalesce(a.entry ->> 'reference_note', p_reference_note) as reference_note,
             a.entry ->> 'idempotency_key' as idempotency_key
        from jsonb_array_elements(p_allocations) with ordinality as a(entry, "position")) as p
    left join lateral (
         -- What was answered once is answered again, also when the tenant was closed since.
         select x.id, x.currency from public.tenants as x
          where x.id = p.tenant_id
            and (x.is_active or exists (
                  select from public.platform_billing_logs as b
                   where b.tenant_id = p.tenant_id and b.idempotency_key = p.idempotency_key))
          limit 1) as t on true;

  perform from internal.lock_pools(array(
    select distinct e.tenant_id from jsonb_to_recordset(v_entries) as e(tenant_id uuid, refusal jsonb)
     where e.refusal is null order by 1));

  -- Of those under one key in this call, the first counts. No pool ever gets more than its column holds.
  select array_agg(n."position" order by n."position") filter (where n.is_first and not n.is_too_much),
         jsonb_agg(to_jsonb(n) || jsonb_build_object('refusal', case
           when n.is_first and n.is_too_much then internal.refusal('invalid_amount', 'amount: no pool holds as much')
           else n.refusal end) order by n."position")
    into v_new, v_entries
    from (
      select e.*, e.refusal is null and l.id is null and row_number() over (
               partition by e.refusal is null, e.tenant_id, e.idempotency_key is null, coalesce(e.idempotency_key, e."position"::text)
               order by e."position") = 1 as is_first,
             (coalesce(a.balance, 0) / 100.0 > 9999999999999.99 - sum(e.amount) filter (where e.refusal is null and l.id is null) over (
               partition by e.tenant_id order by e."position")) is true as is_too_much
        from jsonb_to_recordset(v_entries) as e(
               "position" int, tenant_id uuid, id uuid, bill_id uuid, amount numeric, reference_note text, idempotency_key text,
               hash text, refusal jsonb)
        left join lateral (
             -- Whatever came under the key, an allocation or something else that the platform did.
             select x.id from public.platform_billing_logs as x
              where x.tenant_id = e.tenant_id and x.idempotency_key = e.idempotency_key limit 1) as l on true
        left join lateral (
             select x.balance from ledger.accounts as x where x.book_id = e.tenant_id and x.account = 'tenant.pool' limit 1) as a on true
      ) as n;

  if v_new is not null then
    v_limit := internal.allocations_limit_detail(p_user_id, p_ip_address);
    if v_limit is not null then
      perform internal.refuse('rate_limited', v_limit);
    end if;

    insert into public.allocation_logs as l (
           tenant_id, id, allocated_by, actor, amount, currency, reference_note, expires_at, idempotency_key, request_hash,
           request_id, is_request, ip_address, created_at, updated_at)
    select e.tenant_id, e.id, p_user_id, p_actor, e.amount, t.currency, e.reference_note,
           v_now + case t.expiry_policy
                     when '90_days' then interval '90 days'
                     when '180_days' then interval '180 days'
                     when '1_year' then interval '1 year' end,
           e.idempotency_key, e.hash, p_request_id, e."position" = v_new[1], p_ip_address, v_now, v_now
      from jsonb_to_recordset(v_entries) as e(
             "position" int, tenant_id uuid, id uuid, amount numeric, reference_note text, idempotency_key text, hash text)
     cross join lateral (select x.currency, x.expiry_policy from public.tenants as x where x.id = e.tenant_id limit 1) as t
     where e."position" = any (v_new);

    perform internal.bill_tenants(array(
      select row(e.tenant_id, e.bill_id, e.amount, p_transaction_type, e.id, p_user_id, p_actor, e.reference_note, e.idempotency_key,
                 e.hash, p_request_id)::internal.tenant_bill
        from jsonb_to_recordset(v_entries) as e(
               "position" int, tenant_id uuid, id uuid, bill_id uuid, amount numeric, reference_note text, idempotency_key text, hash text)
       where e."position" = any (v_new)
       order by e."position"));

    update public.tenants as t
       set allocations_due_at = least(t.allocations_due_at, d.expires_at)
      from (select l.tenant_id, min(l.expires_at) as expires_at
              from jsonb_to_recordset(v_entries) as e("position" int, tenant_id uuid, id uuid)
             cross join lateral (
                   select x.tenant_id, x.expires_at from public.allocation_logs as x
                    where x.tenant_id = e.tenant_id and x.id = e.id and x.expires_at is not null limit 1) as l
             where e."position" = any (v_new)
             group by l.tenant_id) as d
     where t.id = d.tenant_id;

    insert into public.tenant_alerts as x (tenant_id, kind, threshold, balance, created_at)
    select e.tenant_id, 'large_allocation', g.large_allocation_above, b.balance_after, v_now
      from jsonb_to_recordset(v_entries) as e("position" int, tenant_id uuid, bill_id uuid, amount numeric)
      join public.allocation_limits as g on e.amount > g.large_allocation_above
     cross join lateral (
           select x.balance_after from public.platform_billing_logs as x where x.tenant_id = e.tenant_id and x.id = e.bill_id limit 1) as b
     where e."position" = any (v_new)
     order by e."position";
  end if;

  return query
    select e."position",
           case when e.refusal is null and l.request_hash = e.hash then
             jsonb_build_object(
               'success', true, 'tenant_id', e.tenant_id, 'amount_allocated', internal.points_text(l.amount),
               'new_allocation_balance', internal.points_text(b.balance_after), 'currency', l.currency, 'allocation_log_id', l.id,
               'platform_log_id', b.id) || case when l.id <> e.id then '{"replayed": true}' else '{}' end::jsonb end,
           case when e.refusal is not null then e.refusal
                when l.request_hash is distinct from e.hash
                  then internal.refusal('nonce_reused', 'idempotency_key: it came with another request before') end
      from jsonb_to_recordset(v_entries) as e(
             "position" int, tenant_id uuid, id uuid, idempotency_key text, hash text, refusal jsonb)
      left join lateral (
           select x.* from public.allocation_logs as x
            where x.tenant_id = e.tenant_id
              and x.id = case when e."position" = any (v_new) then e.id else (
                    select y.id from public.allocation_logs as y
                     where y.tenant_id = e.tenant_id and y.idempotency_key = e.idempotency_key) end
            limit 1) as l on true
      left join lateral (
           select x.id, x.balance_after from public.platform_billing_logs as x
            where x.tenant_id = l.tenant_id and x.allocation_id = l.id and x.transaction_type in ('CREDIT_INJECTION', 'REFILL')
            limit 1) as b on true
     order by e."position";
end
$$;

-- Gives points of the platform to up to 1,000 pools at once: the same to each of p_tenant_ids, or p_allocations, an array
-- of {tenant_id, amount, currency, reference_note, idempotency_key}, of which the first two are needed. Each is done or
-- refused by itself; the hourly limit counts the call once. Returns {success_count, failed_count, results}; results tells
-- of each, in order and counted from 1, {position, tenant_id as it came, and what allocate_to_tenant answers, or code and
-- detail}.
--
-- Replay:  a key of the whole is each allocation's that has none: under it the same is answered as the first time, with
--          "replayed", for ever. Of p_tenant_ids one that is named twice is meant once; p_allocations are each meant, and the
--          second to one tenant has the key with "#2" after it.
-- Locks:   those of internal.allocate_to_tenants.
-- Refuses: forbidden, invalid_body, rate_limited; in place: invalid_body, invalid_amount, tenant_not_found, nonce_reused.

create or replace function public.bulk_allocate_to_tenants(
  p_user_id         uuid,
  p_tenant_ids      uuid[] default null,
  p_amount          numeric default null,
  p_allocations     jsonb default null,
  p_reference_note  text default null,
  p_currency        text default null,
  p_idempotency_key text default null,
  p_ip_address      inet default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_allocations jsonb := p_allocations;
begin
  if (p_tenant_ids is null) = (p_allocations is null) then
    perform internal.refuse('invalid_body', 'tenant_ids: either these are given, or allocations');
  elsif p_amount is not null and p_allocations is not null then
    perform internal.refuse('invalid_body', 'amount: each of the allocations says its own');
  elsif length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  elsif p_tenant_ids is not null then
    select coalesce(jsonb_agg(jsonb_build_object('tenant_id', t.id, 'amount', p_amount) order by t.ordinality), '[]') into v_allocations
      from unnest(p_tenant_ids) with ordinality as t(id);
  elsif jsonb_typeof(p_allocations) <> 'array' then
    perform internal.refuse('invalid_body', 'allocations: must be an array');
  end if;
  if jsonb_array_length(v_allocations) not between 1 and 1000 then
    perform internal.refuse('invalid_body', 'allocations: must be 1 to 1000');
  end if;

  return (
    select jsonb_build_object(
             'success_count', count(o.answer), 'failed_count', count(o.refusal),
             'results', jsonb_agg(
               jsonb_build_object('position', o."position", 'tenant_id', v_allocations -> (o."position" - 1) -> 'tenant_id')
                 || coalesce(o.answer, jsonb_build_object(
                      'success', false, 'code', o.refusal -> 'code', 'detail', o.refusal -> 'detail'))
               order by o."position"))
      from internal.allocate_to_tenants(
             p_user_id,
             (select jsonb_agg(
                       -- What an allocation leaves open may have come as null.
                       case when jsonb_typeof(a.entry) = 'object' then
                         jsonb_strip_nulls(
                           jsonb_build_object('currency', p_currency, 'idempotency_key', a.key) || jsonb_strip_nulls(a.entry))
                       else a.entry end order by a.ordinality)
                from (
                  -- Who allocates to one tenant several times in one call does so again when the call is repeated.
                  select x.entry, x.ordinality,
                         case when p_allocations is null or x.nth = 1 then p_idempotency_key
                              when length(p_idempotency_key) > 190 then md5(p_idempotency_key) || '#' || x.nth
                              else p_idempotency_key || '#' || x.nth end as key
                    from (select e.entry, e.ordinality, row_number() over (
                                   partition by lower(e.entry ->> 'tenant_id'), e.entry ->> 'idempotency_key' is null
                                   order by e.ordinality) as nth
                            from jsonb_array_elements(v_allocations) with ordinality as e(entry)) as x) as a),
             coalesce(p_reference_note, format('Bulk allocation for %s tenants', jsonb_array_length(v_allocations))),
             p_ip_address, 'CREDIT_INJECTION', v_actor, p_request_id) as o);
end
$$;

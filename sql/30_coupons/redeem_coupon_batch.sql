-- Buys coupons with points: points leave the ledger, the coupon is issued, and the event that says so is written, together.
-- Each request: {user_id, template_id, idempotency_key, code_hash, key_id, sealed_code, request_id}. The code itself
-- never comes here; sealed_code is its copy that only the function can open, and comes back with every replay
-- until it is cleaned away.
--
-- Replay:  the same template under the same key is answered as the first time, with "replayed".
-- Locks:   the users' points accounts, in order; under that lock everything is decided.
-- Refuses: nonce_reused, template_not_found, coupon_limit_reached, insufficient_points.

create or replace function internal.redeem_coupon_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_book_ids uuid[];
  v_available bigint[];
begin
  perform internal.act_for(v_users);

  select array_agg(l.book_id), array_agg(l.available) into v_book_ids, v_available
    from ledger.lock(v_users, 'points') as l;

  return query
  with request as materialized (
    select r.*, internal.uuidv7() as coupon_id, internal.uuidv7() as event_id, internal.clock() as issued_at,
           internal.points_payload_hash(r.user_id, 'redeem_coupon', null, r.idempotency_key, to_jsonb(r.template_id)) as payload_hash
      from rows from (jsonb_to_recordset(p_requests) as (
             user_id uuid, template_id uuid, idempotency_key text, code_hash text, key_id text, sealed_code text, request_id text))
           with ordinality as r(user_id, template_id, idempotency_key, code_hash, key_id, sealed_code, request_id, position)
  ), judged as materialized (
    select r.*, t.points_cost, coalesce(a.available, 0) as available, n.sealed, e.id as first_event_id,
           r.issued_at + make_interval(days => t.expires_after_days) as expires_at,
           case
             when e.id is not null then 'replayed'
             when n.nonce is not null then 'nonce_reused'
             when t.is_active is not true then 'template_not_found'
             when t.max_redemptions_per_user <= (
               select count(*) from public.coupons as c
                where c.issued_to = r.user_id and c.template_id = r.template_id) then 'coupon_limit_reached'
             when coalesce(a.available, 0) < t.points_cost then 'insufficient_points'
           end as verdict
      from request as r
      left join public.coupon_templates as t on t.template_id = r.template_id
      left join unnest(v_book_ids, v_available) as a(book_id, available) on a.book_id = r.user_id
      left join public.points_events as e on e.user_id = r.user_id and e.payload_hash = r.payload_hash
      left join public.used_nonces as n on n.user_id = r.user_id and n.nonce = r.idempotency_key
  ), claimed as (
    insert into public.used_nonces as n (user_id, nonce, event_type, payload_hash, sealed)
    select j.user_id, j.idempotency_key, 'redeem_coupon', j.payload_hash, j.sealed_code from judged as j where j.verdict is null
  ), posted as materialized (
    select o.transfer_id, o.from_available
      from internal.move_points(array(
             select row(j.user_id, j.event_id, -j.points_cost, 0, 'redeem_coupon', j.issued_at)::internal.points_move
               from judged as j
              where j.verdict is null
              order by j.position)) as o
     where o.outcome = 'posted'
  ), recorded as (
    insert into public.points_events as e (
           user_id, id, event_type, event_time, points_delta, validation_status, validated_at, validated_by,
           related_entity_type, related_entity_id, nonce, payload_hash, request_id, transfer_id)
    select j.user_id, j.event_id, 'redeem_coupon', j.issued_at, -j.points_cost, 'validated', j.issued_at, 'system',
           'coupon', j.coupon_id, j.idempotency_key, j.payload_hash, j.request_id, p.transfer_id
      from judged as j
      join posted as p on p.transfer_id = j.event_id
  ), issued as (
    insert into public.coupons as c (
           coupon_id, template_id, code_hash, key_id, issued_to, issued_points_cost, issued_at, points_event_id, expires_at, metadata)
    select j.coupon_id, j.template_id, j.code_hash, j.key_id, j.user_id, j.points_cost, j.issued_at, j.event_id, j.expires_at,
           jsonb_build_object('points_remaining', p.from_available)
      from judged as j
      join posted as p on p.transfer_id = j.event_id
  )
  select j.position::int,
         case
           when p.transfer_id is not null then jsonb_build_object(
             'success', true, 'coupon_id', j.coupon_id, 'expires_at', j.expires_at, 'points_cost', j.points_cost,
             'points_remaining', p.from_available, 'sealed_code', j.sealed_code, 'replayed', false)
           when j.verdict = 'replayed' then (
             select jsonb_build_object(
                      'success', true, 'coupon_id', c.coupon_id, 'expires_at', c.expires_at, 'points_cost', c.issued_points_cost,
                      'points_remaining', c.metadata -> 'points_remaining', 'sealed_code', j.sealed, 'replayed', true)
               from public.coupons as c
              where c.issued_to = j.user_id and c.points_event_id = j.first_event_id)
         end,
         case
           when j.verdict <> 'replayed' then internal.refusal(j.verdict, case j.verdict
             when 'nonce_reused' then format('idempotency_key: %s came with another request before', j.idempotency_key)
             when 'template_not_found' then format('template_id: %s', j.template_id)
             when 'insufficient_points' then format('Available: %s, Required: %s', j.available, j.points_cost) end)
           when p.transfer_id is null and j.verdict is null then internal.refusal('insufficient_points')
         end
    from judged as j
    left join posted as p on p.transfer_id = j.event_id;
end
$$;

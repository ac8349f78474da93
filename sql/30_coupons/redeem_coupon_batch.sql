-- Buys coupons with points: points leave the ledger, the coupon is issued, and the event that says so is written, together.
-- Each request is an internal.coupon_request. The code itself never comes here; sealed_code is its copy that only the
-- function can open, and it comes back with every replay for a quarter of an hour.
--
-- Replay:  the same template under the same key is answered as the first time, with "replayed".
-- Locks:   the stock of the templates that are counted, in order; then the users' points accounts, in order. Under these
--          locks everything is decided.
-- Refuses: nonce_reused, template_not_found, template_exhausted, insufficient_points, coupon_limit_reached.
--
-- What can be bought is bought without looking for an earlier request: the unique keys say whether there was one. Only
-- what was not bought is looked at afterwards. Look-ups are lateral or scalar, so that each goes by its own key and
-- never through all rows of the call's subjects.
-- What is limited goes to those who come first. No place is taken by who cannot pay or may not have another one, nor by a
-- replay, which here alone is looked for first.

create or replace function internal.redeem_coupon_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_counted uuid[];  -- the templates that are counted, and what is sold of each
  v_issued bigint[];
  v_points bigint[];
  v_books uuid[];
  v_available bigint[];
  v_outcome internal.outcome;
  v_bought int[] := array[]::int[];
  v_coupons uuid[];
  v_raced boolean;
begin
  perform internal.act_for(v_users);

  loop
    -- The limits are read after this lock and not with it: whoever changes them waits for it, and it for them.
    select array_agg(l.template_id), array_agg(l.issued), array_agg(l.points)
      into v_counted, v_issued, v_points
      from (select s.template_id, s.issued, s.points
              from public.coupon_stock as s
             where s.template_id = any (array(select (r ->> 'template_id')::uuid from jsonb_array_elements(p_requests) as r))
             order by s.template_id
               for update) as l;

    select array_agg(l.book_id), array_agg(l.available) into v_books, v_available from ledger.lock(v_users, 'points') as l;

    v_coupons := array[]::uuid[];
    v_raced := false;
    for v_outcome in
      with request as materialized (
        select r.*, internal.uuidv7() as coupon_id, internal.uuidv7() as event_id,
               t.points_cost, v_now + make_interval(days => t.expires_after_days) as expires_at,
               internal.points_event_hash(r.user_id, 'redeem_coupon', null, r.idempotency_key, 'template', r.template_id) as payload_hash,
               -- How many more there are, null for no end, and who gets them.
               least(t.max_redemptions - s.issued, (t.budget_points - s.points) / t.points_cost) as room,
               row_number() over (partition by r.template_id order by r.ordinality) as place
          from jsonb_populate_recordset(null::internal.coupon_request, p_requests) with ordinality as r
          join public.coupon_templates as t on t.template_id = r.template_id and t.is_active
           and (t.valid_from is null or t.valid_from <= v_now) and (t.valid_until is null or t.valid_until > v_now)
          join unnest(v_books, v_available) as a(book_id, available) on a.book_id = r.user_id and a.available >= t.points_cost
          left join unnest(v_counted, v_issued, v_points) as s(template_id, issued, points) on s.template_id = r.template_id
         where not r.ordinality::int = any (v_bought)
           and (t.max_redemptions_per_user is null
            or t.max_redemptions_per_user > (
               select count(*) from public.coupons as c
                where c.issued_to = r.user_id and c.template_id = r.template_id and c.refunded_at is null))
           and case
                 -- A limit that came between the lock and here belongs to an offer that this call came too early for.
                 when s.template_id is null then t.max_redemptions is null and t.budget_points is null
                 else (select n.nonce from public.used_nonces as n where n.user_id = r.user_id and n.nonce = r.idempotency_key) is null
                  and (select e.id from public.points_events as e
                        where e.user_id = r.user_id and e.payload_hash = internal.points_event_hash(
                              r.user_id, 'redeem_coupon', null, r.idempotency_key, 'template', r.template_id)) is null
               end
      ), claimed as (
        insert into public.used_nonces as n (user_id, nonce, event_type, payload_hash, sealed, created_at)
        select r.user_id, r.idempotency_key, 'redeem_coupon', r.payload_hash, r.sealed_code, v_now from request as r
         where (r.place <= r.room) is not false
           and (select e.id from public.points_events as e
                 where e.user_id = r.user_id and e.payload_hash = r.payload_hash) is null
        on conflict (user_id, nonce) do nothing
        returning n.user_id
      ), posted as materialized (
        select o.transfer_id, o.from_available
          from internal.move_points(array(
                 select row(r.user_id, r.event_id, -r.points_cost, 0, 'redeem_coupon', v_now)::internal.points_move
                   from request as r
                   join claimed as c on c.user_id = r.user_id
                  order by r.ordinality)) as o
         where o.outcome = 'posted'
      ), recorded as (
        insert into public.points_events as e (
               user_id, id, event_type, event_time, points_delta, validation_status, validated_at, validated_by,
               related_entity_type, related_entity_id, nonce, payload_hash, request_id, transfer_id, created_at, updated_at)
        select r.user_id, r.event_id, 'redeem_coupon', v_now, -r.points_cost, 'validated', v_now, 'system',
               'coupon', r.coupon_id, r.idempotency_key, r.payload_hash, r.request_id, p.transfer_id, v_now, v_now
          from posted as p
          join request as r on r.event_id = p.transfer_id
      ), issued as (
        insert into public.coupons as c (
               coupon_id, template_id, code_hash, key_id, issued_to, issued_points_cost, issued_at, points_event_id,
               points_remaining, expires_at, created_at, updated_at)
        select r.coupon_id, r.template_id, r.code_hash, r.key_id, r.user_id, r.points_cost, v_now, r.event_id,
               p.from_available, r.expires_at, v_now, v_now
          from posted as p
          join request as r on r.event_id = p.transfer_id
      )
      select r.ordinality::int,
             case when p.transfer_id is not null then jsonb_build_object(
               'success', true, 'coupon_id', r.coupon_id, 'expires_at', r.expires_at, 'points_cost', r.points_cost,
               'points_remaining', p.from_available, 'sealed_code', r.sealed_code, 'replayed', false) end,
             null::jsonb
        from request as r
        left join posted as p on p.transfer_id = r.event_id
       where p.transfer_id is not null or r.place <= r.room
    loop
      if v_outcome.answer is null then
        v_raced := true;
      else
        v_bought := v_bought || v_outcome.position;
        v_coupons := v_coupons || (v_outcome.answer ->> 'coupon_id')::uuid;
        return next v_outcome;
      end if;
    end loop;

    if v_counted is not null then
      update public.coupon_stock as s
         set issued = s.issued + b.issued, points = s.points + b.points
        from (select c.template_id, count(*) as issued, sum(c.issued_points_cost) as points
                from public.coupons as c
               where c.coupon_id = any (v_coupons)
               group by c.template_id) as b
       where s.template_id = b.template_id;
    end if;
    -- Whoever lost their nonce to another session meanwhile leaves their place to whoever comes after them.
    exit when not v_raced;
  end loop;

  if cardinality(v_bought) < cardinality(v_users) then
    return query
      select r.ordinality::int,
             case when c.coupon_id is not null then jsonb_build_object(
               'success', true, 'coupon_id', c.coupon_id, 'expires_at', c.expires_at, 'points_cost', c.issued_points_cost,
               'points_remaining', c.points_remaining, 'replayed', true,
               'sealed_code', case when n.payload_hash = h.payload_hash and n.created_at > v_now - interval '15 minutes' then n.sealed end) end,
             case
               when c.coupon_id is not null then null
               when n.nonce is not null then
                 internal.refusal('nonce_reused', format('idempotency_key: %s came with another request before', r.idempotency_key))
               when t.is_active is not true or t.valid_from > v_now or t.valid_until <= v_now
                 or s.template_id is null and (t.max_redemptions is not null or t.budget_points is not null) then
                 internal.refusal('template_not_found', format('template_id: %s', r.template_id))
               when least(t.max_redemptions - s.issued, (t.budget_points - s.points) / t.points_cost) <= 0 then
                 internal.refusal('template_exhausted', format('template_id: %s', r.template_id))
               when coalesce(a.available, 0) < t.points_cost then
                 internal.refusal('insufficient_points', format('Available: %s, Required: %s', coalesce(a.available, 0), t.points_cost))
               else
                 internal.refusal('coupon_limit_reached', format('template_id: %s can be had %s times', r.template_id, t.max_redemptions_per_user))
             end
        from jsonb_populate_recordset(null::internal.coupon_request, p_requests) with ordinality as r
        left join public.coupon_templates as t on t.template_id = r.template_id
        left join unnest(v_books, v_available) as a(book_id, available) on a.book_id = r.user_id
        left join lateral (
             select x.template_id, x.issued, x.points from public.coupon_stock as x
              where x.template_id = r.template_id and x.template_id = any (v_counted) limit 1) as s on true
       cross join lateral (
             select internal.points_event_hash(
                      r.user_id, 'redeem_coupon', null, r.idempotency_key, 'template', r.template_id) as payload_hash offset 0) as h
        left join lateral (
             select x.nonce, x.payload_hash, x.sealed, x.created_at from public.used_nonces as x
              where x.user_id = r.user_id and x.nonce = r.idempotency_key limit 1) as n on true
        left join lateral (
             select x.related_entity_id from public.points_events as x
              where x.user_id = r.user_id and x.payload_hash = h.payload_hash limit 1) as e on true
        left join lateral (
             select x.* from public.coupons as x where x.coupon_id = e.related_entity_id limit 1) as c on true
       where not r.ordinality::int = any (v_bought);
  end if;
end
$$;

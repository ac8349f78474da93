-- Gives back what was reserved for a call of a model that is not made. Each request bears the arguments of
-- public.release_credits.
-- by_user: it is asked with the user's own token.
--
-- Replay:  what was released already is answered as the first time, with "replayed".
-- Locks:   internal.lock_credits.
-- Refuses: reservation_not_found, forbidden, reservation_closed.

create or replace function internal.release_credits_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_users uuid[] := array(select (r ->> 'user_id')::uuid from jsonb_array_elements(p_requests) as r);
  v_judged jsonb;
begin
  perform internal.act_for(v_users);
  perform internal.lock_credits(v_users);

  with judged as materialized (
    select e.position, r.user_id, r.reservation_id, v.amount, v.available_again, s.status,
           case when v.id is null then 'reservation_not_found'
                when r.by_user is not false and not v.by_user then 'forbidden'
                when s.status = 'released' then 'known'
                when s.status <> 'held' then 'reservation_closed' end as verdict
      from jsonb_array_elements(p_requests) with ordinality as e(request, position)
     cross join lateral jsonb_to_record('{"by_user": false}'::jsonb || e.request) as r(user_id uuid, reservation_id uuid, by_user boolean)
      left join lateral (
           select x.*, x as row from public.credit_reservations as x
            where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as v on true
      left join lateral (
           select x.id from public.credit_transactions as x
            where x.user_id = r.user_id and x.id = r.reservation_id limit 1) as t on true
      left join lateral (
           select x.status from ledger.holds as x
            where x.book_id = r.user_id and x.hold_id = r.reservation_id limit 1) as h on true
     cross join lateral (values (internal.credit_reservation_status(v.row, h.status, t.id is not null))) as s(status)
  ), closed as materialized (
    select ledger.close_holds(array(
             select row(j.user_id, j.reservation_id, null, null, null, null, null, null, null, null, null)::ledger.holds
               from judged as j
              where j.verdict is null and j.amount > 0), 'released') as holds
  )
  select jsonb_agg(to_jsonb(j)) into v_judged from judged as j where (select c.holds from closed as c) >= 0;

  -- What a reservation held of a lot that has ended meanwhile is not available again.
  perform internal.expire_credit_lots(v_users);

  return query
  with judged as materialized (
    select j.*, a.available, c.balance, c.tier, c.monthly_cap, c.version
      from jsonb_to_recordset(v_judged) as j(
             position int, user_id uuid, reservation_id uuid, amount numeric, available_again numeric, status text, verdict text)
      left join lateral (
           select (x.balance - x.held) / 1000000.0 as available from ledger.accounts as x
            where x.book_id = j.user_id and x.account = 'credits' limit 1) as a on true
      left join lateral (
           select x.balance, x.tier, x.monthly_cap, x.version from public.user_credits as x
            where x.user_id = j.user_id limit 1) as c on true
  ), released as (
    update public.credit_reservations as r
       set released_at = case when j.amount = 0 then internal.clock() end, available_again = coalesce(j.available, 0)
      from judged as j
     where r.user_id = j.user_id and r.id = j.reservation_id and j.verdict is null
    returning r.user_id, r.available_again
  )
  select j.position,
         case when j.verdict is null or j.verdict = 'known' then jsonb_build_object(
           'reservation_id', j.reservation_id, 'released', internal.credits_json(j.amount),
           'available', internal.credits_json(coalesce(r.available_again, j.available_again)),
           'account', jsonb_build_object(
             'user_id', j.user_id, 'balance', internal.credits_json(coalesce(j.balance, 0)), 'tier', coalesce(j.tier, 'free'),
             'monthly_cap', internal.credits_json(j.monthly_cap), 'version', coalesce(j.version, 0)), 'replayed', j.verdict is not null) end,
         case when j.verdict <> 'known' then internal.refusal(j.verdict, case j.verdict
           when 'reservation_not_found' then format('reservation_id: there is no reservation %s', j.reservation_id)
           when 'forbidden' then 'Who reserved it releases it.'
           else format('reservation_id: it was %s already', j.status) end) end
    from judged as j
    left join released as r on r.user_id = j.user_id;
end
$$;

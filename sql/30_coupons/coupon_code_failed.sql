-- Counts a wrong code on whoever showed it, and is the answer to it: the same for a code that never was, one that was used,
-- expired, revoked or is held by another, and one of another partner.
--
-- Locks:   the counts, under the advisory locks of internal.throttle_coupon_codes.
-- Refuses: coupon_not_valid, as data: a refusal that is raised would take the count back with it.

create or replace function internal.coupon_code_failed(p_user_id uuid, p_ip_address inet, p_device_id text)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
begin
  insert into public.coupon_attempts as a (scope, subject, window_started_at, failures)
  select g.scope, g.subject, v_now, 1
    from internal.coupon_guessers(p_user_id, p_ip_address, p_device_id) as g
    join public.coupon_throttles as t on t.scope = g.scope
   order by g.scope
  on conflict (scope, subject) do update
     set (window_started_at, failures) = (
         select case when w.is_over then excluded.window_started_at else a.window_started_at end,
                case when w.is_over then 1 else a.failures + 1 end
           from (select a.window_started_at + make_interval(secs => t.window_seconds) <= v_now as is_over
                   from public.coupon_throttles as t
                  where t.scope = a.scope) as w);

  return jsonb_build_object('refusal', internal.refusal('coupon_not_valid'));
end
$$;

-- Whether somebody has shown too many wrong codes to be heard: the refusal, or null. Until the transaction ends nobody else
-- shows a code from the same user, device or address, so that of many guesses made at once no more are looked up than
-- of as many made in turn.
--
-- Locks:   an advisory lock for each of them, in order.
-- Refuses: rate_limited, as data: a refusal that is raised would take the count of failures back with it.

create or replace function internal.throttle_coupon_codes(p_user_id uuid, p_ip_address inet, p_device_id text)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_refusal jsonb;
begin
  perform pg_advisory_xact_lock(l.key)
     from (select hashtextextended(format('tallybook.coupon_attempts %s %s', g.scope, g.subject), 0) as key
             from internal.coupon_guessers(p_user_id, p_ip_address, p_device_id) as g
            order by 1) as l;

  select internal.refusal('rate_limited', format('coupon_failures_per_%s: %s in %s s; again in %s s',
           w.scope, w.failures_max, w.window_seconds, ceil(extract(epoch from w.ends_at - v_now))))
    into v_refusal
    from (select a.scope, t.failures_max, t.window_seconds, a.window_started_at + make_interval(secs => t.window_seconds) as ends_at
            from internal.coupon_guessers(p_user_id, p_ip_address, p_device_id) as g
            join public.coupon_attempts as a on a.scope = g.scope and a.subject = g.subject
            join public.coupon_throttles as t on t.scope = a.scope and a.failures >= t.failures_max) as w
   where w.ends_at > v_now
   order by w.ends_at desc
   limit 1;
  return v_refusal;
end
$$;

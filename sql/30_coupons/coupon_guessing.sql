-- Who is guessing codes: those that are over half of what they may get wrong, now.

create or replace view internal.coupon_guessing
with (security_invoker = true)
as
select a.scope, a.subject, a.failures, t.failures_max, a.failures >= t.failures_max as is_refused, a.window_started_at,
       a.window_started_at + make_interval(secs => t.window_seconds) as window_ends_at
  from public.coupon_attempts as a
  join public.coupon_throttles as t on t.scope = a.scope
 where a.failures * 2 > t.failures_max and a.window_started_at + make_interval(secs => t.window_seconds) > internal.clock();

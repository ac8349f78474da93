-- Removes the counts of wrong codes whose time is over, oldest first, at most p_limit of them; returns {"removed": n}.
--
-- Replay:  a count that is gone is not there; a second run finds others or none.
-- Locks:   the counts, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.cleanup_coupon_attempts(p_limit int default 10000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_over timestamptz := internal.clock() - make_interval(secs => coalesce((select max(t.window_seconds) from public.coupon_throttles as t), 0));
  v_removed int;
begin
  with due as materialized (
    select a.scope, a.subject
      from public.coupon_attempts as a
     where a.window_started_at <= v_over
     order by a.window_started_at
     limit p_limit
       for update skip locked
  )
  delete from public.coupon_attempts as a
   using due as d
   where a.scope = d.scope and a.subject = d.subject;
  get diagnostics v_removed = row_count;
  return jsonb_build_object('removed', v_removed);
end
$$;

-- Writes down what time has done: coupons past their day have expired, and holds past theirs are let go. Oldest first, at most
-- p_limit of each; returns {"expired": n, "released": n}. Whoever reads a coupon goes by the time and not by this.
--
-- Replay:  what is done is not there; a second run finds others or none.
-- Locks:   the coupons, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.mark_expired_coupons(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_expired int;
  v_released int;
begin
  with due as materialized (
    select c.coupon_id
      from public.coupons as c
     where c.status in ('issued', 'held') and c.expires_at <= v_now
     order by c.expires_at
     limit p_limit
       for update skip locked
  )
  update public.coupons as c
     set status = 'expired', updated_at = v_now
    from due as d
   where c.coupon_id = d.coupon_id;
  get diagnostics v_expired = row_count;

  with due as materialized (
    select c.coupon_id
      from public.coupons as c
     where c.status = 'held' and c.held_until <= v_now and c.expires_at > v_now
     order by c.held_until
     limit p_limit
       for update skip locked
  )
  update public.coupons as c
     set status = 'issued', held_by = null, hold_key = null, updated_at = v_now
    from due as d
   where c.coupon_id = d.coupon_id;
  get diagnostics v_released = row_count;

  return jsonb_build_object('expired', v_expired, 'released', v_released);
end
$$;

-- Ends a promotional code. One that was redeemed stays and is switched off, because it tells what was given; one that never was
-- goes. What it has given keeps: credits, and discounts that wait. Administrators only. Returns {code, deleted, times_used}.
--
-- Replay:  one that is switched off is answered so again, with "replayed"; one that went is not found.
-- Locks:   the code.
-- Refuses: forbidden, promotion_not_found.

create or replace function public.delete_promotion(
  p_user_id    uuid,
  p_code       text,
  p_reason     text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_promotion public.coupon_codes;
begin
  select c.* into v_promotion from public.coupon_codes as c where c.code = internal.promotion_code(p_code) for update;
  if v_promotion.code is null then
    perform internal.refuse('promotion_not_found', format('code: %s', internal.promotion_code(p_code)));
  end if;

  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.reason', coalesce(p_reason, ''), true),
          set_config('tallybook.request_id', coalesce(p_request_id, ''), true);
  if v_promotion.times_used = 0 then
    delete from public.coupon_codes as c where c.code = v_promotion.code;
  elsif v_promotion.is_active then
    update public.coupon_codes as c set is_active = false, updated_at = internal.clock() where c.code = v_promotion.code;
  end if;
  return jsonb_build_object(
    'code', v_promotion.code, 'deleted', v_promotion.times_used = 0, 'times_used', v_promotion.times_used,
    'replayed', v_promotion.times_used > 0 and not v_promotion.is_active);
end
$$;

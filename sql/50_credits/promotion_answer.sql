-- A promotional code as administrators see it, with how it stands now.

create or replace function internal.promotion_answer(p_promotion public.coupon_codes)
returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return to_jsonb(p_promotion) || jsonb_build_object(
    'discount_value', internal.credits_json(p_promotion.discount_value),
    'status', case when not p_promotion.is_active then 'inactive'
                   when p_promotion.expires_at <= internal.clock() then 'expired'
                   when p_promotion.times_used >= p_promotion.max_uses then 'exhausted'
                   when p_promotion.valid_from > internal.clock() then 'scheduled'
                   else 'active' end);
end
$$;

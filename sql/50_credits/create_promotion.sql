-- Makes a promotional code. Administrators only. Returns the promotion with its status.
--
-- Replay:  the same promotion again is answered as it now is, with "replayed"; one without a time to begin began when it was made.
-- Locks:   the code.
-- Refuses: forbidden, invalid_body, unknown_tier, promotion_exists: the code is taken by another one, or is switched off.

create or replace function public.create_promotion(
  p_user_id                   uuid,
  p_code                      text,
  p_discount_type             text,
  p_discount_value            numeric,
  p_description               text default null,
  p_max_uses                  int default null,
  p_max_uses_per_user         int default 1,
  p_tier                      text default null,
  p_credits_expire_after_days int default null,
  p_valid_from                timestamptz default null,
  p_expires_at                timestamptz default null,
  p_actor                     text default null,
  p_request_id                text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_actor text := internal.actor(p_user_id, p_actor);
  v_code text := internal.promotion_code(p_code);
  v_value numeric := round(p_discount_value, 6);
  v_per_user int := coalesce(p_max_uses_per_user, 1);
  v_promotion public.coupon_codes;
  v_is_new boolean;
begin
  perform internal.refuse('invalid_body', f.fault)
     from (values
             (1, coalesce(v_code, '') !~ '^\S{3,64}$',       'code: must be 3 to 64 characters without blanks'),
             (2, coalesce(p_discount_type, '') not in ('fixed', 'percentage', 'free_month', 'bonus'),
                                                             'discount_type: must be fixed, percentage, free_month or bonus'),
             (3, (v_value > 0 and v_value < 1e11) is not true, 'discount_value: must be greater than zero and less than 10^11'),
             (4, p_discount_type = 'percentage' and v_value > 100, 'discount_value: must be at most 100 percent'),
             (5, p_discount_type = 'free_month' and (v_value <> trunc(v_value) or v_value > 120),
                                                             'discount_value: must be 1 to 120 whole months'),
             (6, p_max_uses < 1,                             'max_uses: must be at least 1'),
             (7, v_per_user < 1,                             'max_uses_per_user: must be at least 1'),
             (8, p_credits_expire_after_days not between 1 and 36500, 'credits_expire_after_days: must be 1 to 36500'),
             (9, p_expires_at <= p_valid_from,               'expires_at: must be after valid_from')) as f(position, is_wrong, fault)
    where f.is_wrong
    order by f.position;
  if p_tier is not null then
    perform from public.pricing_tiers as t where t.version = internal.pricing_version() and t.tier = p_tier;
    if not found then
      perform internal.refuse('unknown_tier', format('tier: %s', p_tier));
    end if;
  end if;

  perform set_config('tallybook.actor', v_actor, true), set_config('tallybook.request_id', coalesce(p_request_id, ''), true);
  insert into public.coupon_codes as c (
         code, discount_type, discount_value, description, max_uses, max_uses_per_user, tier, credits_expire_after_days,
         valid_from, expires_at, created_by)
  values (v_code, p_discount_type, v_value, p_description, p_max_uses, v_per_user, p_tier, p_credits_expire_after_days,
          coalesce(p_valid_from, internal.clock()), p_expires_at, v_actor)
  on conflict (code) do nothing
  returning c.* into v_promotion;
  v_is_new := found;

  if not v_is_new then
    select c.* into v_promotion from public.coupon_codes as c where c.code = v_code;
    if (v_promotion.discount_type, v_promotion.discount_value, v_promotion.description, v_promotion.max_uses, v_promotion.max_uses_per_user,
        v_promotion.tier, v_promotion.credits_expire_after_days, v_promotion.valid_from, v_promotion.expires_at, v_promotion.is_active)
       is distinct from
       (p_discount_type, v_value, p_description, p_max_uses, v_per_user,
        p_tier, p_credits_expire_after_days, coalesce(p_valid_from, v_promotion.valid_from), p_expires_at, true) then
      perform internal.refuse('promotion_exists', format('code: %s', v_code));
    end if;
  end if;
  return internal.promotion_answer(v_promotion) || jsonb_build_object('replayed', not v_is_new);
end
$$;

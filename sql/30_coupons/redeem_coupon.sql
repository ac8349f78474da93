-- Buys one coupon with points: redeem_coupon_batch with one request, raising its refusal.
--
-- Replay:  the same template under the same key is answered as the first time, with "replayed".
-- Locks:   the stock of a template that is counted, then the user's points account.
-- Refuses: nonce_reused, template_not_found, template_exhausted, insufficient_points, coupon_limit_reached.

create or replace function public.redeem_coupon(
  p_user_id         uuid,
  p_template_id     uuid,
  p_idempotency_key text,
  p_code_hash       text,
  p_key_id          text,
  p_sealed_code     text,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_outcome internal.outcome;
begin
  select o.position, o.answer, o.refusal into v_outcome
    from internal.redeem_coupon_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'template_id', p_template_id, 'idempotency_key', p_idempotency_key,
           'code_hash', p_code_hash, 'key_id', p_key_id, 'sealed_code', p_sealed_code, 'request_id', p_request_id))) as o;
  return internal.single(v_outcome);
end
$$;

-- What credits are sold in, and what each package costs this user with the discount that waits for them.
--
-- Replay:  it changes nothing.
-- Locks:   none.
-- Refuses: nothing.

create or replace function public.credit_packages_on_offer(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return (
    select jsonb_build_object('packages', coalesce(jsonb_agg(jsonb_build_object(
             'package', p.package, 'credits', internal.credits_json(p.credits), 'price', internal.credits_json(p.price),
             'currency', p.currency, 'discount', internal.credits_json(coalesce(o.discount, 0)),
             'amount_due', internal.credits_json(p.price - coalesce(o.discount, 0)), 'code', o.code) order by p.price, p.package), '[]'))
      from public.credit_packages as p
      left join lateral (
           select d.code, round(p.price * d.percent / 100, 2) as discount
             from internal.waiting_discount(p_user_id) as d
            where p.price > 0) as o on true
     where p.is_active);
end
$$;

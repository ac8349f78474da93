-- Sets what a calendar month's usage may cost a user; null removes the cap. One that is less than what is spent already only
-- stops further spending.
--
-- Replay:  setting the same again changes nothing.
-- Locks:   internal.lock_credits.
-- Refuses: invalid_amount.

create or replace function public.set_monthly_cap(p_user_id uuid, p_monthly_cap numeric default null, p_request_id text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_before numeric;
begin
  perform internal.act_for(array[p_user_id]);
  if (p_monthly_cap >= 0 and p_monthly_cap < 1000000000000) is false then
    perform internal.refuse('invalid_amount', 'monthly_cap: must lie between 0 and 1000000000000');
  end if;
  perform internal.lock_credits(array[p_user_id]);

  select c.monthly_cap into v_before from public.user_credits as c where c.user_id = p_user_id;
  insert into public.user_credits as c (user_id, monthly_cap, version)
  values (p_user_id, trunc(p_monthly_cap, 6), 1)
  on conflict (user_id) do update
     set monthly_cap = excluded.monthly_cap, version = c.version + 1, updated_at = internal.clock()
   where c.monthly_cap is distinct from excluded.monthly_cap;
  if v_before is distinct from trunc(p_monthly_cap, 6) then
    perform internal.audit(p_user_id::text, 'credits.monthly_cap', 'user', p_user_id::text, null,
      jsonb_build_object('monthly_cap', internal.credits_json(v_before)),
      jsonb_build_object('monthly_cap', internal.credits_json(trunc(p_monthly_cap, 6))), p_request_id);
  end if;

  return internal.monthly_cap(p_user_id) || jsonb_build_object('account', internal.credit_account(p_user_id));
end
$$;

-- What a user has: {balance, tier, monthly_cap}, and the last ten transactions when asked for. What is reserved is in the
-- balance; lots whose time is up are not, whether their expiry is posted yet or not.
--
-- Replay:  it changes nothing.
-- Locks:   none.
-- Refuses: nothing.

create or replace function public.credit_balance(p_user_id uuid, p_include_history boolean default false)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off  -- or all of a user's transactions are read for the last ten
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_credits public.user_credits;
  v_ended numeric := 0;
begin
  perform internal.act_for(array[p_user_id]);
  select c.* into v_credits from public.user_credits as c where c.user_id = p_user_id;
  if v_credits.lots_due_at <= v_now then
    v_ended := internal.ended_credits(p_user_id);
  end if;
  return jsonb_build_object(
           'balance', internal.credits_json(coalesce(v_credits.balance, 0) - v_ended), 'tier', coalesce(v_credits.tier, 'free'),
           'monthly_cap', internal.credits_json(v_credits.monthly_cap))
         || case when p_include_history then jsonb_build_object('history', coalesce((
              select jsonb_agg(internal.credit_transaction_json(t) order by t.created_at desc, t.id desc)
                from (select x.* from public.credit_transactions as x
                       where x.user_id = p_user_id order by x.created_at desc, x.id desc limit 10) as t), jsonb_build_array()))
            else jsonb_build_object('account', internal.credit_account(p_user_id)) end;
end
$$;

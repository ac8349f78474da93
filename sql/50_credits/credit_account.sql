-- A user's balance, tier and cap after a change, with the change's number: what a cache may keep, and for whom. Every answer of a
-- procedure that changes any of them brings it along. It says whose it is: an administrator's is called for somebody else.

create or replace function internal.credit_account(p_user_id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_account jsonb;
begin
  select jsonb_build_object('user_id', c.user_id, 'balance', internal.credits_json(c.balance), 'tier', c.tier,
           'monthly_cap', internal.credits_json(c.monthly_cap), 'version', c.version)
    into v_account
    from public.user_credits as c
   where c.user_id = p_user_id;
  return coalesce(v_account, jsonb_build_object('user_id', p_user_id, 'balance', 0.0, 'tier', 'free', 'monthly_cap', null, 'version', 0));
end
$$;

-- Puts a user into another tier: users themselves, administrators too, into a smaller one or one as large; an administrator
-- or a program the user whom p_account names, into any. A tier's monthly credits are due at once, unless as many came
-- already in the user's month, which then goes on. In an unlimited tier the account may owe. Answers {"user_id", "tier",
-- "previous_tier", "account"}.
--
-- Replay:  the same tier again changes nothing.
-- Locks:   the user's credits.
-- Refuses: forbidden (somebody else's account, by no administrator), user_not_found, invalid_body (account), unknown_tier,
--          forbidden (tier), credits_owed.

create or replace function public.switch_tier(
  p_user_id    uuid,
  p_tier       text,
  p_account    text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_version int := internal.pricing_version();
  v_user_id uuid := p_user_id;
  v_actor text;
  v_new public.pricing_tiers;
  v_old public.user_credits;
  v_due_at timestamptz;
  v_answer jsonb;
begin
  if p_account is not null and lower(p_account) is distinct from p_user_id::text then
    v_actor := internal.actor(p_user_id, p_actor);
    v_user_id := internal.user_of_account(p_account);
  elsif p_user_id is null then
    perform internal.refuse('invalid_body', 'account: say whose tier this is');
  end if;
  select t.* into v_new from public.pricing_tiers as t where t.version = v_version and t.tier = p_tier;
  if v_new.tier is null then
    perform internal.refuse('unknown_tier', format('tier: there is no %s', p_tier));
  end if;

  perform internal.lock_credits(array[v_user_id]);
  select c.* into v_old from public.user_credits as c where c.user_id = v_user_id;
  v_old.tier := coalesce(v_old.tier, 'free');
  v_answer := jsonb_build_object('user_id', v_user_id, 'tier', p_tier, 'previous_tier', v_old.tier);
  if v_old.tier = p_tier then
    return v_answer || jsonb_build_object('account', internal.credit_account(v_user_id));
  end if;
  if v_user_id = p_user_id and not exists (
       select from public.pricing_tiers as t where t.version = v_version and t.tier = v_old.tier and t.position >= v_new.position) then
    perform internal.refuse('forbidden', format('tier: %s is larger than %s, and nobody''s own to take', p_tier, v_old.tier));
  end if;

  -- What ends before the switch ends on the old tier's terms.
  perform internal.expire_credit_lots(array[v_user_id]);
  if v_new.monthly_credits is not null and exists (
       select from ledger.accounts as a where a.book_id = v_user_id and a.account = 'credits' and a.balance - a.held < 0) then
    perform internal.refuse('credits_owed', format('tier: credits are owed, and nobody owes any in %s', p_tier));
  end if;

  if v_new.monthly_credits > 0 then
    -- The month that goes on ends with its lot, which may keep for another one. What is due already may be due to the old
    -- tier only, and says nothing of the month.
    select case when count(*) = 0 then v_now
                when v_old.allocation_due_at > v_now then v_old.allocation_due_at
                else greatest(v_now, coalesce(
                  max(g.expires_at - case g.source when 'rollover' then interval '1 month' else interval '0' end)
                    filter (where t.idempotency_key like 'allocation:%'),
                  v_old.last_reset + interval '1 month')) end
      into v_due_at
      from public.credit_transactions as t
      left join public.credit_grants as g on g.user_id = t.user_id and g.grant_id = t.id
     where t.user_id = v_user_id and t.transaction_type = 'allocation' and t.created_at >= v_old.last_reset
       and t.amount >= v_new.monthly_credits;
  end if;
  insert into public.user_credits as c (user_id, tier, allocation_due_at, version, updated_at)
  values (v_user_id, p_tier, v_due_at, 1, v_now)
  on conflict (user_id) do update
     set tier              = excluded.tier,
         allocation_due_at = excluded.allocation_due_at,
         version           = c.version + 1,
         updated_at        = excluded.updated_at;
  perform ledger.set_floor(v_user_id, 'credits', case when v_new.monthly_credits is null then -1000000000000000 else 0 end);

  if v_actor is not null then
    perform internal.audit(v_actor, 'credits.tier_switched', 'user', v_user_id::text, null,
      jsonb_build_object('tier', v_old.tier), jsonb_build_object('tier', p_tier), p_request_id);
  end if;
  return v_answer || jsonb_build_object('account', internal.credit_account(v_user_id));
end
$$;

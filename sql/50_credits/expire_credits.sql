-- Ends the lots whose time is up, of at most p_limit users; returns {"expired": users, "credits": n}. Who spends meets their
-- own ends before: this is for those who do not.
--
-- Replay:  what expired is gone; a second run finds others or none.
-- Locks:   internal.lock_credits of all of them.
-- Refuses: nothing.

create or replace function public.expire_credits(p_limit int default 1000)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_users uuid[];
begin
  v_users := array(
    select c.user_id
      from public.user_credits as c
     where c.lots_due_at <= v_now and c.lots_due_at < 'infinity'  -- as the index says
       -- Who has reserved all that is left loses nothing yet.
       and (select a.balance > a.held from ledger.accounts as a where a.book_id = c.user_id and a.account = 'credits')
     order by c.lots_due_at
     limit p_limit);
  perform internal.lock_credits(v_users);
  return jsonb_build_object(
    'expired', cardinality(v_users), 'credits', internal.credits_json(internal.expire_credit_lots(v_users)));
end
$$;

-- Charges one use: what internal.move_credits does with a set of one use, which is nearly every set. A few short statements
-- cost less than the one that handles sets and everything else that moves credits.
--
-- Replay:  a movement whose transfer is in the book moves nothing again.
-- Locks:   none of its own.
-- Refuses: insufficient_funds, as an outcome.

create or replace function internal.charge_use(p_move internal.credit_movement)
returns internal.credit_moved
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_moved internal.credit_moved;
begin
  v_moved.position := 1;
  v_moved.id := p_move.id;
  v_moved.outcome := 'posted';

  if p_move.amount < 0 then
    v_moved.outcome := (ledger.post_one(row(p_move.id, p_move.user_id, 'credits', 'credits.used', (-p_move.amount * 1000000)::bigint,
      p_move.transaction_type, 'credit_transaction', p_move.id, p_move.created_at)::ledger.posting)).outcome;
    if v_moved.outcome <> 'posted' then
      return v_moved;
    end if;

    with stock as (
      select g.grant_id, g.remaining, g.ctid as place,
             sum(g.remaining) over (order by g.priority, g.expires_at, g.created_at, g.grant_id) as until
        from public.credit_grants as g
       where g.user_id = p_move.user_id and g.is_open
    ), taken as materialized (
      select s.grant_id, s.place, s.remaining - greatest(0, s.until + p_move.amount) as amount
        from stock as s
       where s.until - s.remaining < -p_move.amount
    ), changed as (
      -- By the place where it was found: looked for again, all lots that the user ever had could be read.
      update public.credit_grants as g
         set remaining = g.remaining - t.amount
        from taken as t
       where g.ctid = t.place
    )
    insert into public.credit_lot_entries (user_id, transaction_id, grant_id, amount)
    select p_move.user_id, p_move.id, t.grant_id, -t.amount from taken as t;
  end if;

  update public.user_credits as c
     set balance = c.balance + p_move.amount, version = c.version + 1, updated_at = v_now
   where c.user_id = p_move.user_id
  returning c.balance into v_moved.balance_after;
  if not found then
    insert into public.user_credits as c (user_id, balance, version, updated_at)
    values (p_move.user_id, p_move.amount, 1, v_now)
    returning c.balance into v_moved.balance_after;
  end if;

  insert into public.credit_transactions (
         user_id, id, amount, balance_after, transaction_type, reason, provider, model, power_level, tokens_used, cost, metadata,
         refund_of, idempotency_key, request_hash, actor, request_id, created_at)
  values (p_move.user_id, p_move.id, p_move.amount, v_moved.balance_after, p_move.transaction_type, p_move.reason, p_move.provider,
          p_move.model, p_move.power_level, p_move.tokens_used, p_move.cost, p_move.metadata, p_move.refund_of,
          p_move.idempotency_key, p_move.request_hash, p_move.actor, p_move.request_id, p_move.created_at);
  return v_moved;
end
$$;

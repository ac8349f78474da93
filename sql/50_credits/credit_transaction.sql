-- One transaction of a user's, with the lots it brought to or took from, and what was refunded of it.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: transaction_not_found, for another user's as well.

create or replace function public.credit_transaction(p_user_id uuid, p_transaction_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_transaction public.credit_transactions;
begin
  perform internal.act_for(array[p_user_id]);
  select t.* into v_transaction from public.credit_transactions as t where t.user_id = p_user_id and t.id = p_transaction_id;
  if v_transaction.id is null then
    perform internal.refuse('transaction_not_found', format('transaction_id: %s', p_transaction_id));
  end if;
  return internal.credit_transaction_json(v_transaction) || jsonb_build_object(
    'lots', coalesce((
      select jsonb_agg(jsonb_build_object('grant_id', e.grant_id, 'source', g.source, 'amount', internal.credits_json(e.amount))
               order by g.priority, g.expires_at, g.created_at, g.grant_id)
        from public.credit_lot_entries as e
       cross join lateral (
             select x.* from public.credit_grants as x where x.user_id = e.user_id and x.grant_id = e.grant_id limit 1) as g
       where e.user_id = p_user_id and e.transaction_id = p_transaction_id), '[]'),
    'refunds', coalesce((
      select jsonb_agg(jsonb_build_object(
               'id', r.id, 'amount', internal.credits_json(r.amount), 'reason', r.reason, 'created_at', r.created_at)
               order by r.created_at, r.id)
        from public.credit_transactions as r
       where r.user_id = p_user_id and r.refund_of = p_transaction_id), '[]'));
end
$$;

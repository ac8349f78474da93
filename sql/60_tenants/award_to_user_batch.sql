-- Awards points to members: internal.recognize for those who give their company's points, with one recipient each.
-- A program, or an administrator of the platform, awards in the system's name.
--
-- Replay, Locks, Refuses: as internal.recognize.

create or replace function internal.award_to_user_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return query
  select g.position,
         case when g.replayed then o.answer || '{"replayed": true}' when g.refusal is null then o.answer end,
         -- What is at fault is called here as it came.
         g.refusal || jsonb_build_object('detail', case split_part(g.refusal ->> 'detail', ': ', 1)
           when 'points' then 'amount: must be above 0, at most 9999999999999.99, with at most two decimal places'
           when 'message' then 'recognition_message: must say something, in at most 2000 characters'
           when 'recipients' then 'to_user_id: must be named'
           else g.refusal ->> 'detail' end)
    from internal.recognize(array(
           select row(r.user_id, r.tenant_id, array[r.to_user_id], coalesce(r.amount, 0), r.recognition_message, 'individual_award',
                      null, null, null, true, r.idempotency_key, r.request_id)::internal.recognition_request
             from jsonb_to_recordset(p_requests) as r(
                    user_id uuid, tenant_id uuid, to_user_id uuid, amount numeric, recognition_message text, idempotency_key text,
                    request_id text))) as g
   cross join lateral (
         select jsonb_build_object('success', true, 'amount_awarded', g.points,
                  'recipient_new_wallet_balance', g.recipients #> '{0,new_wallet_balance}', 'tenant_remaining_pool', g.pool,
                  'ledger_entry_id', g.recipients #> '{0,ledger_entry_id}', 'recognition_id', g.id, 'funded_by', g.funded_by) as answer) as o;
end
$$;

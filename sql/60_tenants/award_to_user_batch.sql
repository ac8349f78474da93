-- Awards points to members: internal.give_recognition_batch for those who give their company's points, with one recipient each.
-- A program, or an administrator of the platform, awards in the system's name.
--
-- Replay, Locks, Refuses: as internal.give_recognition_batch.

create or replace function internal.award_to_user_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return query
  select o.position,
         jsonb_build_object(
           'success', true, 'amount_awarded', o.answer -> 'points',
           'recipient_new_wallet_balance', o.answer #> '{recipients,0,new_wallet_balance}',
           'tenant_remaining_pool', o.answer -> 'tenant_remaining_pool', 'ledger_entry_id', o.answer #> '{recipients,0,ledger_entry_id}',
           'recognition_id', o.answer -> 'recognition_id', 'funded_by', o.answer -> 'funded_by')
         || case when o.answer ? 'replayed' then '{"replayed": true}'::jsonb else '{}'::jsonb end,
         -- What is at fault is called here as it came.
         o.refusal || jsonb_build_object('detail', case split_part(o.refusal ->> 'detail', ': ', 1)
           when 'points' then 'amount: must be above 0, at most 9999999999999.99, with at most two decimal places'
           when 'message' then 'recognition_message: must say something, in at most 2000 characters'
           when 'recipients' then 'to_user_id: must be named'
           else o.refusal ->> 'detail' end)
    from internal.give_recognition_batch((
           select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                    'user_id', r.request -> 'user_id', 'recipients', jsonb_build_array(r.request -> 'to_user_id'),
                    'points', coalesce(r.request -> 'amount', '0'), 'message', r.request -> 'recognition_message',
                    'recognition_type', 'individual_award', 'award', true, 'tenant_id', r.request -> 'tenant_id',
                    'idempotency_key', r.request -> 'idempotency_key', 'request_id', r.request -> 'request_id')) order by r.ordinality)
             from jsonb_array_elements(p_requests) with ordinality as r(request, ordinality))) as o;
end
$$;

-- Moves points between the pool and a lead's budget, as a manager decided: below zero takes them back. Null is all that the
-- lead has. The caller's membership is known, and the procedure acts for the tenant.
--
-- Replay:  under a key of the manager's the same is answered as the first time, with "replayed", for ever.
-- Locks:   the lead's account, the pool; then the cache rows.
-- Refuses: forbidden, invalid_amount, invalid_body, recipient_not_found, nonce_reused, insufficient_pool,
--          insufficient_budget.

create or replace function internal.move_lead_budget(
  p_manager         public.tenant_members,
  p_lead_user_id    uuid,
  p_amount          numeric,
  p_is_recall       boolean,
  p_reference_note  text,
  p_idempotency_key text,
  p_request_id      text
)
returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_tenant_id uuid := p_manager.tenant_id;
  v_account text := 'tenant.lead:' || p_lead_user_id;
  v_refusal jsonb := internal.points_refusal(p_amount);
  v_hash text := internal.request_hash(jsonb_build_object(
    'delegate', p_lead_user_id, 'amount', trim_scale(p_amount), 'recall', p_is_recall, 'reference_note', p_reference_note));
  v_lead numeric;
  v_pool numeric;
  v_amount numeric := p_amount;
  v_moved internal.tenant_moved;
  v_row public.lead_delegations;
  v_replayed boolean;
begin
  if p_manager.role not in ('tenant_manager', 'hr_admin') then
    perform internal.refuse('forbidden', 'This is open to those who manage a tenant only.');
  elsif v_refusal is not null and not (p_is_recall and p_amount is null) then
    perform internal.refuse(v_refusal ->> 'code', v_refusal ->> 'detail');
  elsif length(p_idempotency_key) not between 1 and 200 then
    perform internal.refuse('invalid_body', 'idempotency_key: must have 1 to 200 characters');
  end if;

  -- A first delegation finds no account to lock before the pool, and must not come back for it with the pool in its hands.
  if not p_is_recall
     and not exists (select from ledger.accounts as a where a.book_id = v_tenant_id and a.account = v_account) then
    perform ledger.open(v_tenant_id, v_account);
  end if;
  v_lead := coalesce((select l.available / 100.0 from ledger.lock(array[v_tenant_id], v_account) as l), 0);
  v_pool := coalesce((select l.available / 100.0 from ledger.lock(array[v_tenant_id], 'tenant.pool') as l), 0);

  select d.* into v_row
    from public.lead_delegations as d
   where d.tenant_id = v_tenant_id and d.delegated_by = p_manager.user_id and d.idempotency_key = p_idempotency_key;
  v_replayed := v_row.id is not null;
  if v_replayed and v_row.request_hash is distinct from v_hash then
    perform internal.refuse('nonce_reused', 'idempotency_key: it came with another request before');
  end if;

  if not v_replayed then
    -- Who is a lead no more keeps no budget; taking it back needs no office.
    perform from public.tenant_members as m
      where m.tenant_id = v_tenant_id and m.user_id = p_lead_user_id
        and (p_is_recall or m.is_active and m.role in ('tenant_lead', 'dept_lead', 'manager'));
    if not found then
      perform internal.refuse('recipient_not_found', 'lead_user_id: no lead of this tenant is known by it');
    end if;
    if p_is_recall then
      v_amount := coalesce(p_amount, v_lead);
      if v_amount = 0 or v_amount > v_lead then
        perform internal.refuse('insufficient_budget', format('amount: the lead has %s', internal.points_text(v_lead)));
      elsif v_pool + v_amount > 9999999999999.99 then
        perform internal.refuse('invalid_amount', 'amount: no pool holds as much');
      end if;
    elsif v_amount > v_pool then
      perform internal.refuse('insufficient_pool', format('Insufficient company allocation pool. Available: %s, Required: %s',
        internal.points_text(v_pool), internal.points_text(v_amount)));
    elsif v_lead + v_amount > 9999999999999.99 then
      perform internal.refuse('invalid_amount', 'amount: no lead holds as much');
    end if;

    v_row.id := internal.uuidv7();
    v_moved := internal.move_tenant_points(array[internal.tenant_move(
      v_tenant_id, case when p_is_recall then v_account else 'tenant.pool' end,
      case when p_is_recall then 'tenant.pool' else v_account end, v_amount, case when p_is_recall then 'recall' else 'delegation' end,
      'lead_delegation', v_row.id, v_row.id, p_created_by => p_manager.user_id, p_created_at => v_now)]);
    if v_moved.outcome is distinct from 'posted' then
      raise exception 'a balance changed that was locked';
    end if;
    insert into public.lead_delegations as d (
           tenant_id, id, delegated_by, lead_user_id, amount, lead_balance, pool_balance, reference_note, idempotency_key,
           request_hash, request_id, created_at)
    values (v_tenant_id, v_row.id, p_manager.user_id, p_lead_user_id, case when p_is_recall then -v_amount else v_amount end,
            case when p_is_recall then v_moved.from_balance else v_moved.to_balance end,
            case when p_is_recall then v_moved.to_balance else v_moved.from_balance end,
            p_reference_note, p_idempotency_key, v_hash, p_request_id, v_now)
    returning d.* into v_row;
    -- What comes back returns to the lots that it was of, and some may have ended meanwhile.
    update public.tenants as t set allocations_due_at = v_now
     where p_is_recall and t.id = v_tenant_id;
  end if;

  return jsonb_build_object(
      'success', true, 'tenant_id', v_tenant_id, 'lead_user_id', p_lead_user_id, 'amount', internal.points_text(abs(v_row.amount)),
      'lead_new_balance', internal.points_text(v_row.lead_balance), 'tenant_remaining_balance', internal.points_text(v_row.pool_balance),
      'reference_note', v_row.reference_note, 'delegation_id', v_row.id)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;

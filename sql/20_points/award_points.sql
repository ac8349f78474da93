-- Gives a user points, or takes some, by an administrator's decision; p_points is signed. An award of more than the
-- program allows one person to give waits in review for a second administrator.
-- Returns {event_id, user_id, points, status, points_available}.
--
-- Replay:  the same award under the same key is answered as the first time, with "replayed"; without a key it is a new one.
-- Locks:   the points account, the cache row.
-- Refuses: forbidden, reason_required, invalid_points, own_event, nonce_reused, insufficient_funds.

create or replace function public.award_points(
  p_user_id         uuid,
  p_to_user_id      uuid,
  p_points          int,
  p_reason          text,
  p_idempotency_key text default null,
  p_actor           text default null,
  p_request_id      text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_actor text := internal.actor(p_user_id, p_actor);
  v_type text := case when p_points < 0 then 'admin_deduction' else 'admin_award' end;
  v_id uuid := internal.uuidv7();
  v_status text;
  v_outcome text;
  v_event public.points_events;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  end if;
  if p_to_user_id is null or p_points is null or p_points = 0 then
    perform internal.refuse('invalid_points', 'points: must be a number other than zero');
  end if;
  if p_to_user_id = p_user_id then
    perform internal.refuse('own_event', 'to_user_id: nobody awards points to themselves');
  end if;

  select case when p_points > g.award_review_above then 'pending_review' else 'validated' end into v_status
    from public.points_rules as r
    join public.points_programs as g on g.program = r.program
   where r.event_type = v_type;

  insert into public.points_events as e (
         user_id, id, event_type, event_time, points_delta, proof_type, validation_status, validated_at, validated_by,
         validation_notes, nonce, payload_hash, request_id, transfer_id, created_at, updated_at)
  values (p_to_user_id, v_id, v_type, v_now, p_points, 'manual_admin', v_status, case when v_status = 'validated' then v_now end,
          v_actor, p_reason, p_idempotency_key,
          internal.points_event_hash(p_to_user_id, 'award', null, coalesce(p_idempotency_key, v_id::text)), p_request_id,
          case when v_status = 'validated' then v_id end, v_now, v_now)
  on conflict (user_id, payload_hash) do nothing;
  if not found then
    select e.* into v_event from public.points_events as e
     where e.user_id = p_to_user_id and e.payload_hash = internal.points_event_hash(p_to_user_id, 'award', null, p_idempotency_key);
    if (v_event.points_delta, v_event.validation_notes) is distinct from (p_points, p_reason) then
      perform internal.refuse('nonce_reused', format('idempotency_key: %s came with another award before', p_idempotency_key));
    end if;
    v_id := v_event.id;
    v_status := v_event.validation_status;
  else
    select m.outcome into v_outcome
      from internal.move_points(array[row(p_to_user_id, v_id, case when v_status = 'validated' then p_points else 0 end,
             case when v_status = 'validated' then 0 else p_points end, v_type, v_now)::internal.points_move]) as m;
    if v_outcome = 'insufficient_funds' then
      perform internal.refuse('insufficient_funds', format('points: the user has fewer than %s', -p_points));
    end if;
  end if;

  return jsonb_build_object(
    'event_id', v_id, 'user_id', p_to_user_id, 'points', p_points, 'status', v_status,
    'points_available', coalesce((select a.balance - a.held from ledger.accounts as a where a.book_id = p_to_user_id and a.account = 'points'), 0),
    'replayed', v_event.id is not null);
end
$$;

-- Decides an event that waits for a person, 'approved' or 'rejected', with a reason. Approving posts what the event is worth
-- now and resolves the event's own open insights; rejecting lets nothing of it count. p_label says what the reviewer takes
-- it for, and feeds trust_rule_precision.
--
-- Replay:  the same reviewer saying the same again is answered as the first time, with "replayed".
-- Locks:   the event; then the account and the cache row.
-- Refuses: forbidden, reason_required, invalid_body (decision, label), event_not_found, own_event (what is theirs, and an
--          award they made), already_reviewed, not_reviewable, insufficient_funds: a deduction that no longer fits.

create or replace function public.review_points_event(
  p_user_id    uuid,
  p_event_id   uuid,
  p_decision   text,
  p_reason     text,
  p_label      text default null,
  p_actor      text default null,
  p_request_id text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_actor text := internal.actor(p_user_id, p_actor);
  v_event public.points_events;
  v_review public.points_reviews;
  v_points int;
  v_streak int;
begin
  if coalesce(p_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: say why this is so decided');
  end if;
  if p_decision is null or p_decision not in ('approved', 'rejected') then
    perform internal.refuse('invalid_body', 'decision: must be approved or rejected');
  end if;
  if p_label not in ('confirmed_fraud', 'false_positive') then
    perform internal.refuse('invalid_body', 'label: must be confirmed_fraud or false_positive');
  end if;

  select e.* into v_event
    from public.points_events as e
   where e.user_id = internal.user_of_points_event(p_event_id) and e.id = p_event_id
     for update;
  if v_event.id is null then
    perform internal.refuse('event_not_found', format('event_id: %s', p_event_id));
  end if;
  if v_event.user_id = p_user_id then
    perform internal.refuse('own_event', format('event %s is the reviewer''s own', p_event_id));
  end if;

  select r.* into v_review from public.points_reviews as r where r.event_id = p_event_id;
  if v_review.event_id is null then
    if v_event.validation_status not in ('pending_review', 'flagged') then
      perform internal.refuse('not_reviewable', format('event %s is %s', p_event_id, v_event.validation_status));
    end if;
    -- While an award waits, validated_by is who made it.
    if p_decision = 'approved' and v_event.validated_by = v_actor then
      perform internal.refuse('own_event', format('%s made this award', v_actor));
    end if;
  elsif (v_review.decision, v_review.reason, v_review.label, v_review.reviewed_by, v_review.reviewer_id)
        is distinct from (p_decision, p_reason, p_label, v_actor, p_user_id) then
    perform internal.refuse('already_reviewed', format('%s has %s it', v_review.reviewed_by, v_review.decision));
  else
    return internal.points_review_answer(v_event, v_review, true);
  end if;

  v_points := 0;
  if p_decision = 'approved' then
    select w.points, w.streak_days into v_points, v_streak from internal.points_awarded(array[v_event]) as w;
    v_points := coalesce(v_points, v_event.points_delta);
  end if;
  perform internal.refuse('insufficient_funds', format('event %s takes more than the user has', p_event_id))
     from internal.move_points(array[row(v_event.user_id, v_event.id, v_points, -v_event.points_delta,
            v_event.event_type, v_event.event_time)::internal.points_move]) as o
    where o.outcome = 'insufficient_funds';

  update public.points_events as e
     set validation_status = case p_decision when 'approved' then 'validated' else 'rejected' end,
         points_delta = case p_decision when 'approved' then v_points else e.points_delta end,
         streak_days = case p_decision when 'approved' then v_streak end,
         transfer_id = case when v_points <> 0 then e.id end,
         validated_at = case p_decision when 'approved' then v_now end,
         validated_by = case p_decision when 'approved' then v_actor end,
         updated_at = v_now
   where e.user_id = v_event.user_id and e.id = v_event.id;

  insert into public.points_reviews as r (
         event_id, user_id, decision, reason, label, reviewed_by, reviewer_id, reviewed_at, request_id)
  values (p_event_id, v_event.user_id, p_decision, p_reason, p_label, v_actor, p_user_id, v_now, p_request_id)
  returning r.* into v_review;

  if p_label is not null then
    insert into public.points_review_notes (event_id, user_id, note, label, author, created_at)
    values (p_event_id, v_event.user_id, p_reason, p_label, v_actor, v_now);
  end if;

  if p_decision = 'approved' then
    update public.fraud_insights as f
       set resolved = true, resolved_at = v_now, resolved_by = v_actor, resolution_notes = p_reason
     where f.user_id = v_event.user_id and f.created_at >= v_event.created_at
       and f.related_event_ids = array[p_event_id] and not f.resolved;
  end if;

  perform internal.audit(
    v_actor, 'points_event.' || p_decision, 'points_event', p_event_id::text, p_reason,
    jsonb_build_object('validation_status', v_event.validation_status, 'points_delta', v_event.points_delta,
      'trust_score', v_event.trust_score, 'validated_by', v_event.validated_by),
    jsonb_build_object('validation_status', case p_decision when 'approved' then 'validated' else 'rejected' end,
      'points_awarded', v_points, 'label', p_label), p_request_id);

  v_event.points_delta := case p_decision when 'approved' then v_points else v_event.points_delta end;
  return internal.points_review_answer(v_event, v_review, false);
end
$$;

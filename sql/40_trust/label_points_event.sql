-- Notes what an event turned out to be, or what there is to know about it. Any event that was judged or reviewed can be
-- labelled, long afterwards too; the newest label counts in trust_rule_precision. Nothing else changes.
--
-- Replay:  the author's same words again, when nobody has said anything since, are answered as the first time.
-- Locks:   the event.
-- Refuses: forbidden, invalid_body (label; neither label nor note), event_not_found, own_event, not_reviewable: it is not
--          decided yet.

create or replace function public.label_points_event(
  p_user_id    uuid,
  p_event_id   uuid,
  p_label      text default null,
  p_note       text default null,
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
  v_actor text := internal.actor(p_user_id, p_actor);
  v_event public.points_events;
  v_last public.points_review_notes;
  v_note public.points_review_notes;
begin
  if p_label not in ('confirmed_fraud', 'false_positive') then
    perform internal.refuse('invalid_body', 'label: must be confirmed_fraud or false_positive');
  end if;
  if p_label is null and coalesce(p_note, '') !~ '\S' then
    perform internal.refuse('invalid_body', 'note: give a label, a note, or both');
  end if;

  select e.* into v_event
    from public.points_events as e
   where e.user_id = internal.user_of_points_event(p_event_id) and e.id = p_event_id
     for update;
  if v_event.id is null then
    perform internal.refuse('event_not_found', format('event_id: %s', p_event_id));
  end if;
  if v_event.user_id = p_user_id then
    perform internal.refuse('own_event', format('event %s is the author''s own', p_event_id));
  end if;
  if v_event.validation_status in ('pending', 'validating') then
    perform internal.refuse('not_reviewable', format('event %s is %s', p_event_id, v_event.validation_status));
  end if;

  select n.* into v_last
    from public.points_review_notes as n where n.event_id = p_event_id order by n.note_id desc limit 1;
  if (v_last.label, v_last.note, v_last.author) is distinct from (p_label, nullif(p_note, ''), v_actor) then
    insert into public.points_review_notes as n (event_id, user_id, note, label, author)
    values (p_event_id, v_event.user_id, nullif(p_note, ''), p_label, v_actor)
    returning n.* into v_note;
    perform internal.audit(
      v_actor, 'points_event.labelled', 'points_event', p_event_id::text, nullif(p_note, ''), null,
      jsonb_build_object('label', p_label), p_request_id);
  end if;
  return jsonb_build_object(
    'note_id', coalesce(v_note.note_id, v_last.note_id), 'event_id', p_event_id, 'user_id', v_event.user_id,
    'label', p_label, 'note', nullif(p_note, ''), 'author', v_actor, 'replayed', v_note.note_id is null);
end
$$;

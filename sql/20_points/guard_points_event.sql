-- Keeps the history true, whoever writes it: an event keeps its user, its id and its type, a validated one its points, its
-- time and what it is about as well, an event moves only along the listed ways, and none is deleted. The clients' grants and
-- policies come before this; an operator's hand comes to this.
--
-- Refuses: event_frozen, invalid_transition.

create or replace function internal.guard_points_event()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    perform internal.refuse('event_frozen', format('event %s cannot be deleted', old.id));
  end if;
  if (old.user_id, old.id, old.event_type) is distinct from (new.user_id, new.id, new.event_type) then
    perform internal.refuse('event_frozen', format('event %s keeps its user, its id and its type', old.id));
  end if;
  if old.validation_status is distinct from new.validation_status
     and (old.validation_status, new.validation_status) not in (
       ('pending', 'validating'),     ('pending', 'pending_review'),    ('pending', 'validated'),     ('pending', 'rejected'),    ('pending', 'flagged'),
       ('validating', 'pending'),     ('validating', 'pending_review'), ('validating', 'validated'),  ('validating', 'rejected'),
       ('pending_review', 'pending'), ('pending_review', 'flagged'),    ('pending_review', 'validated'), ('pending_review', 'rejected'),
       ('flagged', 'pending_review'), ('flagged', 'validated'),         ('flagged', 'rejected')) then
    perform internal.refuse('invalid_transition', format('from %s to %s', old.validation_status, new.validation_status));
  end if;
  if old.validation_status = 'validated'
     and (old.event_time, old.points_delta, old.payload_hash, old.created_at, old.proof_type, old.related_entity_type, old.related_entity_id)
         is distinct from
         (new.event_time, new.points_delta, new.payload_hash, new.created_at, new.proof_type, new.related_entity_type, new.related_entity_id)
     or old.transfer_id is not null and old.transfer_id is distinct from new.transfer_id then
    perform internal.refuse('event_frozen', format('event %s is validated', old.id));
  end if;
  return new;
end
$$;

-- A pending event may go anywhere, so validation, which is hot, does not pay for this check.
create or replace trigger points_events_stay_true
before update on public.points_events
for each row
when (old.validation_status <> 'pending' or old.user_id <> new.user_id or old.id <> new.id or old.event_type <> new.event_type)
execute function internal.guard_points_event();

create or replace trigger points_events_stay
before delete on public.points_events
for each row execute function internal.guard_points_event();

create or replace trigger points_events_stay_whole
before truncate on public.points_events
for each statement execute function internal.append_only();

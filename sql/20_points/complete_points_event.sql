-- Fills what a hand-written row leaves out: an operator's insert names no payload hash, and needs none to be unique.

create or replace function internal.complete_points_event()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.payload_hash := internal.points_event_hash(
    new.user_id, new.event_type, new.event_time, coalesce(new.nonce, new.id::text), new.related_entity_type, new.related_entity_id);
  if new.validation_status = 'validated' then
    new.validated_at := coalesce(new.validated_at, internal.clock());
  end if;
  return new;
end
$$;

create or replace trigger points_events_are_complete
before insert on public.points_events
for each row
when (new.payload_hash is null)
execute function internal.complete_points_event();

-- Whose an event is that waits, was reviewed or was judged; null for every other. Events are kept by their users, and no
-- index finds one by its id alone, because every submission would pay for it.

create or replace function internal.user_of_points_event(p_event_id uuid)
returns uuid
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_user_id uuid;
begin
  select e.user_id into v_user_id
    from public.points_events as e
   where e.validation_status in ('pending_review', 'flagged', 'pending', 'validating') and e.transfer_id is null
     and e.id = p_event_id
   limit 1;
  if v_user_id is null then
    select r.user_id into v_user_id from public.points_reviews as r where r.event_id = p_event_id;
  end if;
  if v_user_id is null then
    select a.user_id into v_user_id from public.trust_assessments as a where a.event_id = p_event_id limit 1;
  end if;
  return v_user_id;
end
$$;

-- Recognizes people, with points or without: internal.recognize for requests as they come, each an
-- internal.recognition_request.
--
-- Replay, Locks, Refuses: as internal.recognize.

create or replace function internal.give_recognition_batch(p_requests jsonb)
returns setof internal.outcome
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return query
  select g.position,
         case when g.replayed then o.answer || '{"replayed": true}' when g.refusal is null then o.answer end,
         g.refusal
    from internal.recognize(array(
           select r::internal.recognition_request
             from jsonb_populate_recordset(null::internal.recognition_request, p_requests) as r)) as g
   cross join lateral (
         select jsonb_build_object('recognition_id', g.id, 'points', g.points, 'recipients', g.recipients, 'funded_by', g.funded_by,
                  'tenant_remaining_pool', g.pool, 'status', 'active') as answer) as o;
end
$$;

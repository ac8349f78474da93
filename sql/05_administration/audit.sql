-- Writes down what an administrator did.

create or replace function internal.audit(
  p_actor        text,
  p_action       text,
  p_subject_type text,
  p_subject_id   text,
  p_reason       text default null,
  p_before       jsonb default null,
  p_after        jsonb default null,
  p_request_id   text default null
)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into public.audit_log (actor, action, subject_type, subject_id, reason, before, after, request_id)
  values (p_actor, p_action, p_subject_type, p_subject_id, p_reason, p_before, p_after, p_request_id);
end
$$;

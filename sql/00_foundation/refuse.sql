-- Raises a refusal: SQLSTATE PTxyz, which PostgREST and the Python library both answer with HTTP status xyz,
-- the code as the message, the hint from the catalogue. The one place where a procedure says no.
-- A detail about one argument begins with it and a colon ('event_time: …'): Python makes that the path of the fault.

create or replace function internal.refuse(p_code text, p_detail text default null)
returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_refusal jsonb := internal.refusal(p_code, p_detail);
begin
  raise exception using
    errcode = 'PT' || (v_refusal ->> 'status'),
    message = p_code,
    detail  = v_refusal ->> 'detail',
    hint    = coalesce(v_refusal ->> 'hint', '');
end
$$;

-- Raises a refusal: SQLSTATE PTxyz, which PostgREST and the Python library both answer with HTTP status xyz,
-- the code as the message, the hint from the catalogue. The one place where a procedure says no.

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
    detail  = coalesce(p_detail, v_refusal ->> 'title'),
    hint    = coalesce(v_refusal ->> 'hint', '');
end
$$;

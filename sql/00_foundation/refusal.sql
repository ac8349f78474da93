-- A refusal as data: the catalogue's entry with what it was about. Set-based cores return it for one request
-- of many; internal.refuse raises it.

create or replace function internal.refusal(p_code text, p_detail text default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_refusal jsonb;
begin
  select jsonb_build_object('code', r.code, 'status', r.status, 'detail', coalesce(p_detail, r.title), 'hint', r.hint)
    into v_refusal
    from internal.refusals as r
   where r.code = p_code;
  if v_refusal is null then
    raise exception 'the refusal % is not in the catalogue', p_code;
  end if;
  return v_refusal;
end
$$;

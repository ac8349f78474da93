-- Turns the outcome of a core that was given one request into what a single procedure does: answer, or raise.

create or replace function internal.single(p_outcome internal.outcome)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  if p_outcome.refusal is not null then
    perform internal.refuse(p_outcome.refusal ->> 'code', p_outcome.refusal ->> 'detail');
  end if;
  return p_outcome.answer;
end
$$;

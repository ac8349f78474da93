-- An amount of credits as a JSON number: exact, with no more decimal places than it has, and with one at least.

create or replace function internal.credits_json(p_credits numeric)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return to_jsonb(case when scale(trim_scale(p_credits)) = 0 then round(p_credits, 1) else trim_scale(p_credits) end);
end
$$;

-- An amount of credits in a sentence: with no decimal places that say nothing.

create or replace function internal.credits_text(p_credits numeric)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return trim_scale(p_credits)::text;
end
$$;

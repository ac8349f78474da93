-- A promotional code as it is stored, however somebody typed it: upper-case, without the blanks around it.

create or replace function internal.promotion_code(p_code text)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return upper(regexp_replace(p_code, '^\s+|\s+$', '', 'g'));
end
$$;

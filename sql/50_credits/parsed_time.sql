-- A time from JSON, which came as text: null where it is none. Words that Postgres takes for times, as 'tomorrow', are none.

create or replace function internal.parsed_time(p_text text)
returns timestamptz
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return case when p_text ~ '^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?)?$' then p_text::timestamptz end;
exception when data_exception then
  return null;
end
$$;

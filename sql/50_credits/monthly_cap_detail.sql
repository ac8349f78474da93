-- What is said to whoever has come to their monthly cap: which it is, and in how many seconds the next month begins.

create or replace function internal.monthly_cap_detail(p_monthly_cap numeric)
returns text
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return format('monthly_cap: %s credits a month; again in %s s', internal.credits_text(p_monthly_cap),
                ceil(extract(epoch from date_trunc('month', internal.clock()) + interval '1 month' - internal.clock())));
end
$$;

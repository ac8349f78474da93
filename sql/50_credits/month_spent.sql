-- What a user's usage has cost in this calendar month, in UTC, less what was refunded: what a monthly cap counts, beside
-- what is reserved. It is counted from the rollup, which is written with every use and is no counter of its own.

create or replace function internal.month_spent(p_user_id uuid)
returns numeric
language plpgsql stable
set search_path = ''
as $$
begin
  return coalesce((
    select sum(r.cost - r.refunded)
      from public.usage_rollups as r
     where r.user_id = p_user_id and r.month = date_trunc('month', internal.clock() at time zone 'UTC')::date), 0);
end
$$;

-- A user's monthly cap and how it stands, as it is told to whoever asks and to whoever has set it. What remains is null where
-- there is no cap, and nothing where more was spent than it is now.

create or replace function internal.monthly_cap(p_user_id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return (
    select jsonb_build_object(
             'monthly_cap', internal.credits_json(c.monthly_cap), 'spent', internal.credits_json(s.spent),
             'reserved', internal.credits_json(s.reserved),
             'remaining', internal.credits_json(greatest(c.monthly_cap - s.spent - s.reserved, case when c.monthly_cap is not null then 0 end)),
             'resets_at', date_trunc('month', internal.clock()) + interval '1 month')
      from (select internal.month_spent(p_user_id) as spent, coalesce((
               select a.held / 1000000.0 from ledger.accounts as a where a.book_id = p_user_id and a.account = 'credits'), 0) as reserved) as s
      left join public.user_credits as c on c.user_id = p_user_id);
end
$$;

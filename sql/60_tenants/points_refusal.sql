-- Why this is no number of tenants' points to move: the refusal, or null.

create or replace function internal.points_refusal(p_points numeric, p_argument text default 'amount')
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  if p_points is null or p_points <= 0 then
    return internal.refusal('invalid_amount', p_argument || ': must be a number greater than zero');
  elsif p_points > 9999999999999.99 then
    return internal.refusal('invalid_amount', p_argument || ': must be at most 9999999999999.99');
  elsif scale(trim_scale(p_points)) > 2 then
    return internal.refusal('invalid_amount', p_argument || ': must have at most two decimal places');
  end if;
  return null;
end
$$;

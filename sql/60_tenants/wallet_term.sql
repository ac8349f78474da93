-- How long points stay in a wallet under a tenant's policy; null: for ever.

create or replace function internal.wallet_term(p_policy text)
returns interval
language plpgsql immutable
set search_path = ''
as $$
begin
  return case p_policy when '90_days' then interval '90 days' when '180_days' then interval '180 days'
                       when '1_year' then interval '1 year' end;
end
$$;

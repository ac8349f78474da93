-- On whom a wrong code is counted: the user, the device and the address it came from, as far as they are known. Of an IPv6
-- address the network counts, because a guesser has a whole one to himself.

create or replace function internal.coupon_guessers(p_user_id uuid, p_ip_address inet, p_device_id text)
returns table (scope text, subject text)
language plpgsql immutable
set search_path = ''
as $$
begin
  return query
    select g.scope, g.subject
      from (values ('address', case family(p_ip_address) when 6 then network(set_masklen(p_ip_address, 64))::text else host(p_ip_address) end),
                   ('device', left(p_device_id, 200)),
                   ('user', p_user_id::text)) as g(scope, subject)
     where g.subject is not null;
end
$$;

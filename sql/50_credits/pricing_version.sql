-- The price list that is in force.

create or replace function internal.pricing_version()
returns int
language plpgsql stable
set search_path = ''
as $$
begin
  return (select v.version from public.pricing_versions as v
           where v.effective_from <= internal.clock() order by v.effective_from desc limit 1);
end
$$;

-- What /readyz asks: is the database there, and is its schema the one this version of the library was written for?

create or replace function public.readiness()
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return jsonb_build_object('schema', '0.1', 'time', internal.clock());
end
$$;

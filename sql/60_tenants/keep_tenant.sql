-- Refuses to take a tenant away, or to call it by another id, once there is anything of it in the ledger: its book would be
-- nobody's, and its people's wallets too. A tenant that is no more is not active.

create or replace function internal.keep_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from ledger.accounts as a where a.book_id = old.id) then
    raise exception using
      errcode = '42501',
      message = format('tenant %s has points in the ledger', old.id),
      hint    = 'Set is_active to false.';
  end if;
  return coalesce(new, old);
end
$$;

create or replace trigger a_tenant_with_points_is_kept
before delete on public.tenants
for each row execute function internal.keep_tenant();

create or replace trigger a_tenant_with_points_keeps_its_id
before update of id on public.tenants
for each row when (old.id <> new.id)
execute function internal.keep_tenant();

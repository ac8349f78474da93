-- Writes down that a pool has just fallen below what its tenant set, or to nothing: once a crossing, by whatever way it
-- fell.

create or replace function internal.alert_tenant()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.tenant_alerts as x (tenant_id, kind, threshold, balance)
  select new.id, a.kind, a.threshold, new.points_allocation_balance
    from (values ('low_balance', new.low_balance_threshold,
                  old.points_allocation_balance >= new.low_balance_threshold
                    and new.points_allocation_balance < new.low_balance_threshold),
                 ('empty', 0, old.points_allocation_balance > 0 and new.points_allocation_balance = 0)) as a(kind, threshold, is_crossed)
   where a.is_crossed;
  return null;
end
$$;

create or replace trigger a_pool_that_falls_low_is_told
after update of points_allocation_balance on public.tenants
for each row when (
  new.points_allocation_balance < old.points_allocation_balance
  and (old.points_allocation_balance >= new.low_balance_threshold and new.points_allocation_balance < new.low_balance_threshold
       or new.points_allocation_balance = 0))
execute function internal.alert_tenant();

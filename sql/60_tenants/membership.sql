-- Who a caller is in which tenant: their one active membership of a tenant that is active, or the one that they name. From now
-- on the procedure acts for that tenant: row-level security hides every other one from it.
--
-- Locks:   none.
-- Refuses: forbidden (no such membership of an active tenant), invalid_body (several, and none was named).

create or replace function internal.membership(p_user_id uuid, p_tenant_id uuid default null)
returns public.tenant_members
language plpgsql volatile
set search_path = ''
as $$
declare
  v_found public.tenant_members[];
begin
  perform internal.act_for(array[p_user_id]);
  v_found := array(
    select m from public.tenant_members as m
     where m.user_id = p_user_id and m.is_active and (p_tenant_id is null or m.tenant_id = p_tenant_id));
  if cardinality(v_found) > 0 then
    -- Whether a tenant is active is seen only by who acts for it.
    perform internal.act_for(array(select f.tenant_id from unnest(v_found) as f));
    v_found := array(
      select f
        from unnest(v_found) as f
       cross join lateral (select from public.tenants as t where t.id = f.tenant_id and t.is_active limit 1) as t
       limit 2);
  end if;
  if cardinality(v_found) = 0 then
    perform internal.refuse('forbidden', 'This is open to the members of a tenant only.');
  elsif cardinality(v_found) > 1 then
    perform internal.refuse('invalid_body', 'tenant_id: there are several, and one must be named');
  end if;
  perform internal.act_for(array[v_found[1].tenant_id]);
  return v_found[1];
end
$$;

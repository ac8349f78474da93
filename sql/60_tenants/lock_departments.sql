-- Locks the departments with a monthly cap whose people are about to give points: what a month has given is counted under it.
--
-- Locks: those departments, in order.

create or replace function internal.lock_departments(p_asks internal.recognition_ask[])
returns void
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  perform from public.departments as d
    where (d.tenant_id, d.id) in (
          select a.tenant_id, a.department_id from unnest(p_asks) as a
           where a.verdict is null and a.points > 0 and a.monthly_cap is not null)
    order by d.tenant_id, d.id
      for update;
end
$$;

-- Says that an administrator, or the address they ask from, has allocated as often in the last hour as they may, and when
-- there is room again: '<policy>: <quota> in <window> s; again in <seconds> s'; null when they may. A bulk counts once.
-- Until the transaction ends nobody else allocates for the same administrator or from the same address. Of an IPv6 address
-- the network counts.
--
-- Locks:   an advisory lock for each of the two, in order.

create or replace function internal.allocations_limit_detail(p_user_id uuid, p_ip_address inet)
returns text
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_max int;
  v_network cidr := network(set_masklen(p_ip_address, case family(p_ip_address) when 6 then 64 else 32 end));
  v_filled_at timestamptz;  -- when the one was made that has to grow older than the hour
begin
  select l.allocations_per_hour_max into v_max from public.allocation_limits as l;
  if v_max is null then
    return null;
  end if;
  perform pg_advisory_xact_lock(k.key)
     from (select hashtextextended('tallybook.allocations ' || w.subject, 0) as key
             from (values (p_user_id::text), (v_network::text)) as w(subject)
            where w.subject is not null
            order by 1) as k;

  select max(f.created_at) into v_filled_at
    from ((select l.created_at from public.allocation_logs as l
            where l.allocated_by = p_user_id and l.is_request and l.created_at > v_now - interval '1 hour'
            order by l.created_at desc offset v_max - 1 limit 1)
          union all
          (select l.created_at from public.allocation_logs as l
            where l.ip_network = v_network and l.is_request and l.created_at > v_now - interval '1 hour'
            order by l.created_at desc offset v_max - 1 limit 1)) as f;
  if v_filled_at is null then
    return null;
  end if;
  return format('allocations_per_hour: %s in 3600 s; again in %s s', v_max,
                greatest(1, ceil(3600 - extract(epoch from v_now - v_filled_at))::int));
end
$$;

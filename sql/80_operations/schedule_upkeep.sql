-- Lets the database keep house by itself where pg_cron is installed: one job an upkeep procedure, every minute. It does what
-- `tallybook worker` does, and the two do not disturb each other. Returns the names of the jobs; none without pg_cron.
-- pg_cron runs a job as who scheduled it: that takes the operator's role, a role that may log in, and the right to use pg_cron.
--
-- Replay:  a job of one's own that is there is scheduled anew. Another person's are theirs and do no harm beside these.
-- Locks:   none.
-- Refuses: forbidden, to a role whose jobs would never run.

create or replace function public.schedule_upkeep(p_schedule text default '* * * * *')
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_procedure text;
  v_cron oid;      -- pg_cron's own schema
  v_jobs jsonb := jsonb_build_array();
begin
  select n.oid into v_cron
    from pg_catalog.pg_extension as x
    join pg_catalog.pg_namespace as n on n.nspname = 'cron'
   where x.extname = 'pg_cron';
  if v_cron is null then
    return v_jobs;
  elsif not has_schema_privilege(v_cron, 'usage') then
    perform internal.refuse('forbidden', format('grant usage on schema cron to %I first', current_user));
  elsif not (select r.rolcanlogin from pg_catalog.pg_roles as r where r.rolname = current_user) then
    perform internal.refuse('forbidden', format('%s may not log in, and neither could its jobs: do it as a role of your own', current_user));
  end if;

  foreach v_procedure in array array[
    'expire_holds', 'cleanup_expired_nonces', 'expire_points', 'mark_expired_coupons', 'forget_sealed_codes',
    'cleanup_coupon_attempts', 'cleanup_expired_attestations', 'expire_credits', 'allocate_monthly_credits', 'fold_usage',
    'expire_allocations', 'refill_pools'] loop
    -- By its name in a value, because it is not there to be checked where pg_cron is not.
    execute format('select %I.schedule($1, $2, $3)', 'cron')
      using 'tallybook ' || v_procedure, p_schedule, format('select public.%I()', v_procedure);
    v_jobs := v_jobs || to_jsonb('tallybook ' || v_procedure);
  end loop;
  return v_jobs;
end
$$;

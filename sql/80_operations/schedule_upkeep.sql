-- Lets the database keep house by itself where pg_cron is installed: one job an upkeep procedure, every minute. It does what
-- `tallybook worker` does, and the two do not disturb each other. Returns the names of the jobs; none without pg_cron.
-- Whoever calls it owns the jobs, so it asks for the right to use pg_cron and for the operator's role.
--
-- Replay:  a job that is there is scheduled anew.
-- Locks:   none.
-- Refuses: nothing.

create or replace function public.schedule_upkeep(p_schedule text default '* * * * *')
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  v_procedure text;
  v_jobs jsonb := '[]';
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    return v_jobs;
  end if;
  foreach v_procedure in array array[
    'expire_holds', 'cleanup_expired_nonces', 'expire_points', 'mark_expired_coupons', 'forget_sealed_codes',
    'cleanup_coupon_attempts', 'cleanup_expired_attestations'] loop
    execute 'select cron.schedule($1, $2, $3)'
      using 'tallybook ' || v_procedure, p_schedule, format('select public.%I()', v_procedure);
    v_jobs := v_jobs || to_jsonb('tallybook ' || v_procedure);
  end loop;
  return v_jobs;
end
$$;

-- What is to be checked again now, with its token, at most p_limit of them; each waits twice as long as the last time
-- before it is due again, so whoever dies over one loses nothing. After an hour nobody asks any more: no token is as old.
--
-- Replay:  what was handed out is not due until its time has come.
-- Locks:   the entries, skipping those that are taken: several workers share the work.
-- Refuses: nothing.

create or replace function public.due_attestations(p_limit int default 100)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_now timestamptz := internal.clock();
  v_due jsonb;
  v_given_up int;
begin
  delete from public.attestation_rechecks as r where r.due_at <= v_now and r.received_at <= v_now - interval '1 hour';
  get diagnostics v_given_up = row_count;

  with due as materialized (
    select r.user_id, r.event_id
      from public.attestation_rechecks as r
     where r.due_at <= v_now
     order by r.due_at
     limit p_limit
       for update skip locked
  ), taken as (
    update public.attestation_rechecks as r
       set tries = r.tries + 1, due_at = v_now + least(interval '10 seconds' * 2 ^ least(r.tries + 1, 10), interval '5 minutes')
      from due as d
     where r.user_id = d.user_id and r.event_id = d.event_id
    returning r.user_id, r.event_id, r.token, r.request_hash, r.received_at
  )
  select coalesce(jsonb_agg(to_jsonb(t) order by t.received_at), '[]') into v_due from taken as t;
  return jsonb_build_object('due', v_due, 'given_up', v_given_up);
end
$$;

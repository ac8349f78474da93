-- A device's evidence that was refused is a finding about its user, once an hour and reason. Some of it happens to honest
-- people as well: a slow network, requests that overtake one another, an app installed anew. That is no grave finding.
--
-- Locks:   none.
-- Refuses: nothing.

create or replace function internal.suspect_failed_attestation()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.fraud_insights (user_id, insight_type, severity, details, related_event_ids)
  values (new.user_id, 'attestation_failure',
          case when new.reason in ('challenge_not_valid', 'counter_not_greater', 'key_taken', 'unknown_key') then 'medium' else 'high' end,
          jsonb_strip_nulls(jsonb_build_object(
            'reason', new.reason, 'detail', new.detail, 'purpose', new.purpose, 'platform', new.platform, 'key_id', new.key_id,
            'request_id', new.request_id)),
          array_remove(array[new.event_id], null));
  return null;
end
$$;

create or replace trigger failed_attestations_are_suspect
after insert on public.attestation_failures
for each row execute function internal.suspect_failed_attestation();

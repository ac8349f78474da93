-- Writes down that a device's evidence was refused. Nobody fills the table by trying again and again: it is counted.
--
-- Locks:   the failure's row.

create or replace function internal.fail_attestation(p_claim internal.attestation_claim, p_reason text, p_event_id uuid default null)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  insert into public.attestation_failures as f (
         user_id, hour, reason, purpose, platform, key_id, event_id, detail, request_id, failed_at)
  values (p_claim.user_id, date_trunc('hour', internal.clock()), p_reason, p_claim.purpose, (p_claim.evidence).platform,
          (p_claim.evidence).key_id, p_event_id, (p_claim.evidence).detail, p_claim.request_id, internal.clock())
  on conflict (user_id, hour, reason) do update
     set failures = f.failures + 1, failed_at = excluded.failed_at, detail = excluded.detail, key_id = excluded.key_id,
         request_id = excluded.request_id, event_id = coalesce(excluded.event_id, f.event_id);
end
$$;

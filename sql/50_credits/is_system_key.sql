-- Whether an idempotency key is one of those under which the system itself moves credits: a user who took one before would
-- keep their own payment from being granted. Null where there is no key.

create or replace function internal.is_system_key(p_idempotency_key text)
returns boolean
language plpgsql immutable
set search_path = ''
as $$
begin
  return starts_with(p_idempotency_key, 'purchase:') or starts_with(p_idempotency_key, 'allocation:');
end
$$;

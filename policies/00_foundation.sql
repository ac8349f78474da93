-- Who may use the helpers. Owners need the right to create in a schema while functions are handed to them; 99_last.sql
-- takes it back.

revoke all on schema internal, ledger from public;
grant usage on schema internal to tallybook_procedures, tallybook_upkeep, tallybook_functions, tallybook_worker, tallybook_operator;
grant usage on schema internal to anon, authenticated, service_role;  -- policies call internal.caller_id(); nothing else in it is theirs
grant usage on schema ledger to tallybook_procedures, tallybook_upkeep, tallybook_operator;
grant usage on schema public to
  anon, authenticated, service_role, tallybook_procedures, tallybook_upkeep, tallybook_functions, tallybook_worker, tallybook_operator;
grant create on schema public, internal to tallybook_procedures, tallybook_upkeep;

revoke all on internal.refusals from public, anon, authenticated, service_role;
grant select on internal.refusals to tallybook_procedures, tallybook_upkeep, tallybook_operator;

revoke all on function
  internal.clock(), internal.uuidv7(), internal.uuidv7s(int), internal.uuidv7_floor(timestamptz), internal.caller_id(), internal.subjects(), internal.act_for(uuid[]),
  internal.refusal(text, text), internal.refuse(text, text), internal.single(internal.outcome), internal.append_only()
from public, anon, authenticated, service_role;

grant execute on function
  internal.clock(), internal.uuidv7(), internal.uuidv7s(int), internal.uuidv7_floor(timestamptz), internal.subjects(), internal.act_for(uuid[]),
  internal.refusal(text, text), internal.refuse(text, text), internal.single(internal.outcome)
to tallybook_procedures, tallybook_upkeep, tallybook_operator;

grant execute on function internal.caller_id() to anon, authenticated, service_role;

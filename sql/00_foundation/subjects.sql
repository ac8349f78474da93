-- Whose rows the running procedure may touch: the users of this call, set by internal.act_for, nobody before that.
-- Policies write it as (select internal.subjects())::uuid[], which is evaluated once a statement and not once a row.

create or replace function internal.subjects()
returns uuid[]
language plpgsql stable
set search_path = ''
as $$
begin
  return nullif(current_setting('tallybook.subjects', true), '')::uuid[];
end
$$;

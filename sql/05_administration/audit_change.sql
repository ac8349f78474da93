-- Writes down every change of a table of settings, whoever makes it and by whatever way. The trigger's argument names the
-- column that says which row it is. Who, why and by which request come from `set local tallybook.actor`, `tallybook.reason`
-- and `tallybook.request_id`, else from the session.

create or replace function internal.audit_change()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  perform internal.audit(
    coalesce(nullif(current_setting('tallybook.actor', true), ''), session_user), 'settings.' || lower(tg_op), tg_table_name,
    coalesce(v_after, v_before) ->> tg_argv[0], nullif(current_setting('tallybook.reason', true), ''), v_before, v_after,
    nullif(current_setting('tallybook.request_id', true), ''));
  return null;
end
$$;

create or replace trigger system_admins_are_audited
after insert or update or delete on public.system_admins
for each row execute function internal.audit_change('id');

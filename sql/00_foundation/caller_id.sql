-- Who is asking, when a client reads through PostgREST or an operator imitates one: the token's subject.
-- Three spellings are understood: PostgREST's JSON claims, its legacy one-setting-a-claim form, and
-- `set local request.jwt.claims.sub = '…'`. A custom setting is '' and not null after its transaction.
-- A subject that is no UUID is nobody.

create or replace function internal.caller_id()
returns uuid
language plpgsql stable
set search_path = ''
as $$
declare
  v_subject text := coalesce(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub',
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims.sub', true), ''));
begin
  return case when v_subject ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then v_subject::uuid end;
end
$$;

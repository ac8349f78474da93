-- What a plain Postgres lacks and Supabase has: its roles, its auth schema, its claims helpers.
-- Runs once. On Supabase every test below finds its object and nothing is changed.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
  end loop;

  if not exists (select from pg_catalog.pg_roles r where r.rolname = 'authenticator') then
    create role authenticator nologin noinherit;
    grant anon, authenticated, service_role to authenticator;
  end if;

  if to_regnamespace('auth') is null then
    create schema auth;
    grant usage on schema auth to anon, authenticated, service_role;
  end if;

  if to_regnamespace('extensions') is null then
    create schema extensions;
    grant usage on schema extensions to anon, authenticated, service_role;
  end if;

  if to_regclass('auth.users') is null then
    create table auth.users (
      id         uuid primary key default gen_random_uuid(),
      email      text,
      created_at timestamptz not null default now()
    );
  end if;

  if to_regprocedure('auth.jwt()') is null then
    create function auth.jwt() returns jsonb language sql stable set search_path = '' as
      $f$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $f$;
  end if;

  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid language sql stable set search_path = '' as
      $f$ select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), auth.jwt() ->> 'sub')::uuid $f$;
  end if;

  if to_regprocedure('auth.role()') is null then
    create function auth.role() returns text language sql stable set search_path = '' as
      $f$ select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), auth.jwt() ->> 'role') $f$;
  end if;
end
$$;

-- The users behind user ids and e-mail addresses, in their places; null where nobody is known so. It belongs to whoever
-- migrates, and to no role of ours, because a hosted auth.users is open to that role alone. Where it may not be read, only ids
-- are understood.

create or replace function internal.users_of_accounts(p_accounts text[])
returns uuid[]
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_id constant text := '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
  v_emails text[] := array(select distinct lower(a.account) from unnest(p_accounts) as a(account) where a.account !~* v_id);
  v_known jsonb := jsonb_build_object();
begin
  if cardinality(v_emails) > 0 then
    begin
      -- Of several with one address, the oldest.
      select coalesce(jsonb_object_agg(k.email, k.id), '{}') into v_known
        from (select distinct on (lower(u.email)) lower(u.email) as email, u.id
                from auth.users as u
               where lower(u.email) = any (v_emails)
               order by lower(u.email), u.created_at, u.id) as k;
    exception when insufficient_privilege then
      v_known := '{}';
    end;
  end if;
  return array(
    select case when a.account ~* v_id then a.account::uuid else (v_known ->> lower(a.account))::uuid end
      from unnest(p_accounts) with ordinality as a(account, "position")
     order by a."position");
end
$$;

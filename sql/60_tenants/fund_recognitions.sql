-- Decides which account pays for each recognition: the first of its sources that holds all of it, in order of arrival, what was
-- paid before counted as gone. One source pays a whole recognition. Known keys are found, and departments' monthly caps kept.
--
-- Locks:   the keys; then every account that may pay, and the wallets that are reached where a wallet may pay, a department has
--          a cap or there are several tenants, in the ledger's order; then the departments that have a cap. Nothing that is
--          decided here can be undone by others before the commit.
-- Refuses: nonce_reused, department_cap_reached, insufficient_pool, insufficient_wallet; each as the verdict on one request.

create or replace function internal.fund_recognitions(p_asks internal.recognition_ask[])
returns internal.recognition_ask[]
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_asks internal.recognition_ask[] := p_asks;
  v_ask internal.recognition_ask;
  v_names text[];      -- tenant/account, or tenant/cap:department
  v_rooms numeric[];   -- what each has left
  v_twin record;       -- an earlier one under the same key
  v_givers uuid[];     -- whose wallets are among them
  v_tenants uuid[];    -- where wallets end, and whose there may pay
  v_givers_of uuid[];
  v_ids uuid[];        -- names in order of arrival, in which a wallet's statement shows what it got
  v_heads int;
  v_named int := 0;
  v_moves int := 0;
  v_known uuid[];      -- what is under the key of each
  v_hashes text[];     -- and the request with which it came
  v_system_gives boolean;
  v_payers internal.tenant_account[];
  v_wanted internal.tenant_account[];  -- they, and whoever must be locked with them
  v_is_capped boolean;
  v_wallets_pay boolean;
  v_are_several boolean;
  v_is_missing boolean;
  v_tenant_id uuid;    -- whose pool is at
  v_pool int;
  v_cap int;
  v_at int;
begin
  perform pg_advisory_xact_lock(l.key)
     from (select distinct hashtextextended(coalesce(a.from_user_id, a.tenant_id)::text, 60) as key
             from unnest(p_asks) as a where a.idempotency_key is not null and a.tenant_id is not null order by 1) as l;

  select coalesce(array_agg(distinct row(a.tenant_id, s.account)::internal.tenant_account), '{}'),
         coalesce(bool_or(a.is_capped), false), coalesce(bool_or(starts_with(s.account, 'tenant.wallet:')), false),
         count(distinct a.tenant_id) > 1
    into v_payers, v_is_capped, v_wallets_pay, v_are_several
    from (select distinct a.tenant_id, a.sources, a.monthly_cap is not null as is_capped
            from unnest(p_asks) as a
           where a.verdict is null and a.points > 0) as a
   cross join unnest(a.sources) as s(account);

  -- Whoever holds a wallet, a department or another tenant's pool must have all accounts, or two of them wait for one another.
  v_wanted := v_payers;
  if v_is_capped or v_wallets_pay or v_are_several then
    v_wanted := v_payers || array(
      select distinct row(a.tenant_id, 'tenant.wallet:' || r.user_id)::internal.tenant_account
        from unnest(p_asks) as a
       cross join unnest(a.recipients) as r(user_id)
       where a.verdict is null and a.points > 0
         and row(a.tenant_id, 'tenant.wallet:' || r.user_id)::internal.tenant_account <> all (v_payers));
  end if;

  -- A wallet without an account cannot be locked, and what came into it while others were waited for is seen the second time.
  for v_try in 1 .. 2 loop
    select coalesce(array_agg(w.tenant_id || '/' || w.account) filter (where w.pays), '{}'),
           coalesce(array_agg(coalesce(x.room, 0) / 100.0) filter (where w.pays), '{}'),
           array_agg(split_part(w.account, ':', 2)::uuid) filter (where w.pays and starts_with(w.account, 'tenant.wallet:')),
           coalesce(bool_or(x.room is null) filter (where w.pays and starts_with(w.account, 'tenant.wallet:')), false)
      into v_names, v_rooms, v_givers, v_is_missing
      from (select u.tenant_id, u.account, u.place <= cardinality(v_payers) as pays
              from unnest(v_wanted) with ordinality as u(tenant_id, account, place)
             order by u.tenant_id, u.account) as w
      left join lateral (
           select a.balance - a.held - a.floor as room
             from ledger.accounts as a
            where a.book_id = w.tenant_id and a.account = w.account
              for update) as x on true;
    exit when not v_is_missing;
  end loop;

  -- What was not spent in time is nobody's to give. It ends under the locks, and what is left is read once more.
  if v_givers is not null then
    select array_agg(w.tenant_id), array_agg(w.user_id)
      into v_tenants, v_givers_of
      from (select distinct a.tenant_id, a.from_user_id as user_id from unnest(p_asks) as a
             where a.verdict is null and a.points > 0 and 'tenant.wallet:' || a.from_user_id = any (a.sources)) as w
     cross join lateral (
           select from public.tenants as t where t.id = w.tenant_id and t.wallet_expiry_policy <> 'never' limit 1) as t;
    if v_tenants is not null and internal.expire_wallet_lots(v_tenants, v_givers_of) > 0 then
      v_rooms := array(
        select case when starts_with(split_part(r.name, '/', 2), 'tenant.wallet:') then coalesce(x.room, 0) / 100.0 else r.room end
          from unnest(v_names, v_rooms) with ordinality as r(name, room, place)
          left join lateral (
               select a.balance - a.held - a.floor as room
                 from ledger.accounts as a
                where a.book_id = split_part(r.name, '/', 1)::uuid and a.account = split_part(r.name, '/', 2) limit 1) as x on true
         order by r.place);
    end if;
  end if;

  if v_is_capped then
    perform internal.lock_departments(p_asks);
    select v_names || array_agg(d.tenant_id || '/cap:' || d.department_id), v_rooms || array_agg(d.monthly_cap - d.given)
      into v_names, v_rooms
      from (
        select c.tenant_id, c.department_id, x.monthly_cap, (
                 select coalesce(sum(r.points), 0) from public.recognitions as r
                  where r.tenant_id = c.tenant_id and r.department_id = c.department_id and r.status = 'active'
                    and r.created_at >= date_trunc('month', internal.clock())) as given
          from (select distinct a.tenant_id, a.department_id from unnest(p_asks) as a
                 where a.verdict is null and a.points > 0 and a.monthly_cap is not null) as c
         cross join lateral (
               select y.monthly_cap from public.departments as y
                where y.tenant_id = c.tenant_id and y.id = c.department_id limit 1) as x) as d;
  end if;

  -- What is under the key is read under the locks; it is answered as it was, whatever has changed since. The key is named as a
  -- range and in its order, and nothing may be sorted: so its own index is the only way in, also for who plans while the table is
  -- empty. No look-up by an index finds a giver or nobody, so that what the system gave is looked up by itself.
  select array_agg(k.id order by a.position), array_agg(k.request_hash order by a.position),
         sum(cardinality(a.recipients)) filter (where a.verdict is null), bool_or(a.from_user_id is null and a.idempotency_key is not null)
    into v_known, v_hashes, v_heads, v_system_gives
    from unnest(p_asks) as a
    left join lateral (
         select r.id, r.request_hash from public.recognitions as r
          where r.tenant_id = a.tenant_id and r.from_user_id = a.from_user_id
            and r.idempotency_key >= a.idempotency_key and r.idempotency_key <= a.idempotency_key
          order by r.idempotency_key limit 1) as k on true;
  if v_system_gives then
    select array_agg(coalesce(k.id, v_known[a.position]) order by a.position),
           array_agg(coalesce(k.request_hash, v_hashes[a.position]) order by a.position)
      into v_known, v_hashes
      from unnest(p_asks) as a
      left join lateral (
           select r.id, r.request_hash from public.recognitions as r
            where a.from_user_id is null and r.tenant_id = a.tenant_id and r.from_user_id is null
              and r.idempotency_key >= a.idempotency_key and r.idempotency_key <= a.idempotency_key
            order by r.from_user_id, r.idempotency_key limit 1) as k on true;
  end if;

  v_ids := internal.uuidv7s(v_heads);
  for v_place in 1 .. cardinality(v_asks) loop
    v_ask := v_asks[v_place];
    if v_known[v_place] is not null then
      v_ask.id := v_known[v_place];
      v_ask.verdict := case when v_hashes[v_place] = v_ask.request_hash then 'known' else 'nonce_reused' end;
      v_ask.detail := 'idempotency_key: it came with another request before';
      v_asks[v_place] := v_ask;
    end if;
    -- Several administrators give in the system's name, and so under the same keys.
    if v_known[v_place] is null and v_ask.from_user_id is null and v_ask.idempotency_key is not null then
      select a.id, case when a.request_hash = v_ask.request_hash then 'known' else 'nonce_reused' end as verdict,
             'idempotency_key: it came with another request before' as detail
        into v_twin
        from unnest(v_asks[:v_place - 1]) as a
       where a.tenant_id = v_ask.tenant_id and a.from_user_id is null and a.idempotency_key = v_ask.idempotency_key
         and a.verdict is null
       limit 1;
      if found then
        v_ask.id := v_twin.id;
        v_ask.verdict := v_twin.verdict;
        v_ask.detail := v_twin.detail;
        v_asks[v_place] := v_ask;
      end if;
    end if;
    continue when v_ask.verdict is not null;
    v_ask.entries := v_ids[v_named + 1 : v_named + cardinality(v_ask.recipients)];
    v_ask.id := v_ask.entries[1];
    v_named := v_named + cardinality(v_ask.recipients);
    if v_tenant_id is distinct from v_ask.tenant_id then
      v_tenant_id := v_ask.tenant_id;
      v_pool := array_position(v_names, v_tenant_id || '/tenant.pool');
      if v_pool is null then
        -- It does not pay, and is told all the same.
        v_pool := cardinality(v_names) + 1;
        v_names[v_pool] := v_tenant_id || '/tenant.pool';
        v_rooms[v_pool] := coalesce((
          select a.balance - a.held - a.floor from ledger.accounts as a
           where a.book_id = v_tenant_id and a.account = 'tenant.pool'), 0) / 100.0;
      end if;
    end if;
    if v_ask.points > 0 then
      v_cap := case when v_ask.monthly_cap is not null
                    then array_position(v_names, v_ask.tenant_id || '/cap:' || v_ask.department_id) end;
      if v_rooms[v_cap] < v_ask.points then
        v_ask.verdict := 'department_cap_reached';
        v_ask.detail := format('The department may give %s more this month. Required: %s',
                               internal.points_text(greatest(v_rooms[v_cap], 0)), internal.points_text(v_ask.points));
      else
        foreach v_ask.source in array v_ask.sources loop
          v_at := case when v_ask.source = 'tenant.pool' then v_pool else array_position(v_names, v_tenant_id || '/' || v_ask.source) end;
          exit when v_rooms[v_at] >= v_ask.points;
          v_at := null;
        end loop;
        if v_at is not null then
          v_ask.moves_before := v_moves;
          v_moves := v_moves + cardinality(v_ask.recipients);
          v_rooms[v_at] := v_rooms[v_at] - v_ask.points;
          if v_cap is not null then
            v_rooms[v_cap] := v_rooms[v_cap] - v_ask.points;
          end if;
          -- What somebody is given, they can give on.
          if v_ask.recipients && v_givers then
            for v_recipient in 1 .. cardinality(v_ask.recipients) loop
              v_at := array_position(v_names, v_ask.tenant_id || '/tenant.wallet:' || v_ask.recipients[v_recipient]);
              if v_at is not null then
                v_rooms[v_at] := v_rooms[v_at] + v_ask.shares[v_recipient];
              end if;
            end loop;
          end if;
        elsif 'tenant.pool' = any (v_ask.sources) then
          v_ask.verdict := 'insufficient_pool';
          v_ask.detail := format('Insufficient company allocation pool. Available: %s, Required: %s',
                                 internal.points_text(v_rooms[v_pool]), internal.points_text(v_ask.points));
        else
          v_ask.verdict := 'insufficient_wallet';
          v_ask.detail := format('Insufficient wallet. Available: %s, Required: %s',
            internal.points_text(coalesce(v_rooms[array_position(v_names, v_ask.tenant_id || '/' || v_ask.sources[1])], 0)),
            internal.points_text(v_ask.points));
        end if;
      end if;
    end if;
    v_ask.pool_after := v_rooms[v_pool];
    v_asks[v_place] := v_ask;
  end loop;
  return v_asks;
end
$$;

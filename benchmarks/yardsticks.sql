-- What a competent hand would write when only the one thing measured mattered: no replay, no ledger, no policies, no
-- audit. Every table has the keys without which the feature would be wrong, and no other index.

create schema yardstick;
grant usage on schema yardstick to tallybook_functions;

create table yardstick.events (
  id         bigint generated always as identity primary key,
  user_id    uuid not null,
  event_type text not null,
  event_time timestamptz not null,
  nonce      text not null,
  points     int  not null default 0,
  status     text not null default 'pending',
  created_at timestamptz not null default now(),
  unique (user_id, nonce)
);

create table yardstick.balances (
  user_id uuid primary key,
  points  bigint not null check (points >= 0)
) with (fillfactor = 80);

create table yardstick.coupons (
  id          bigint generated always as identity primary key,
  template_id uuid not null,
  user_id     uuid not null,
  code_hash   text not null unique,
  issued_at   timestamptz not null default now()
);

-- A guarded update and two inserts, as one function: one round trip, three cached plans. Written as one statement with
-- CTEs it did the same, within noise, and as begin … commit in one pipeline a little less.
create function yardstick.redeem(p_user_id uuid, p_template_id uuid, p_key text, p_code_hash text, p_cost int)
returns bigint
language plpgsql volatile
as $$
declare
  v_points bigint;
begin
  update yardstick.balances set points = points - p_cost where user_id = p_user_id and points >= p_cost returning points into v_points;
  if not found then
    raise exception 'insufficient points';
  end if;
  insert into yardstick.events (user_id, event_type, event_time, nonce, points, status)
  values (p_user_id, 'redeem_coupon', now(), p_key, -p_cost, 'validated');
  insert into yardstick.coupons (template_id, user_id, code_hash) values (p_template_id, p_user_id, p_code_hash);
  return v_points;
end
$$;

-- Credits: a balance that never falls below what is held, a row for the charge and one for the use.
create table yardstick.credits (
  user_id uuid primary key,
  balance numeric(18, 6) not null,
  held    numeric(18, 6) not null default 0,
  check (balance >= held)
) with (fillfactor = 80);

create table yardstick.charges (
  id         bigint generated always as identity primary key,
  user_id    uuid not null,
  amount     numeric(18, 6) not null,
  balance    numeric(18, 6) not null,
  created_at timestamptz not null default now()
);
create index charges_of_a_user on yardstick.charges (user_id, created_at);

create table yardstick.uses (
  id         bigint generated always as identity primary key,
  user_id    uuid not null,
  model      text not null,
  tokens     bigint not null,
  cost       numeric(18, 6) not null,
  created_at timestamptz not null default now()
);
create index uses_of_a_user on yardstick.uses (user_id, created_at);

create table yardstick.reservations (
  id         bigint generated always as identity primary key,
  user_id    uuid not null,
  model      text not null,
  amount     numeric(18, 6) not null,
  status     text not null default 'held',
  created_at timestamptz not null default now()
) with (fillfactor = 80);

create function yardstick.charge(p_user_id uuid, p_tokens bigint, p_model text, p_cost numeric)
returns numeric
language plpgsql volatile
as $$
declare
  v_balance numeric;
begin
  update yardstick.credits set balance = balance - p_cost
   where user_id = p_user_id and balance - held >= p_cost returning balance into v_balance;
  if not found then
    raise exception 'insufficient credits';
  end if;
  insert into yardstick.charges (user_id, amount, balance) values (p_user_id, -p_cost, v_balance);
  insert into yardstick.uses (user_id, model, tokens, cost) values (p_user_id, p_model, p_tokens, p_cost);
  return v_balance;
end
$$;

create function yardstick.reserve(p_user_id uuid, p_model text, p_amount numeric)
returns bigint
language plpgsql volatile
as $$
declare
  v_id bigint;
begin
  update yardstick.credits set held = held + p_amount where user_id = p_user_id and balance - held >= p_amount;
  if not found then
    raise exception 'insufficient credits';
  end if;
  insert into yardstick.reservations (user_id, model, amount) values (p_user_id, p_model, p_amount) returning id into v_id;
  return v_id;
end
$$;

create function yardstick.settle(p_user_id uuid, p_reservation bigint, p_tokens bigint, p_cost numeric)
returns numeric
language plpgsql volatile
as $$
declare
  v_reservation yardstick.reservations;
  v_balance numeric;
begin
  update yardstick.reservations set status = 'settled'
   where id = p_reservation and user_id = p_user_id and status = 'held' returning * into v_reservation;
  if not found then
    raise exception 'no such reservation';
  end if;
  update yardstick.credits set held = held - v_reservation.amount, balance = balance - p_cost
   where user_id = p_user_id returning balance into v_balance;
  insert into yardstick.charges (user_id, amount, balance) values (p_user_id, -p_cost, v_balance);
  insert into yardstick.uses (user_id, model, tokens, cost) values (p_user_id, v_reservation.model, p_tokens, p_cost);
  return v_balance;
end
$$;

-- Validation, row after row, by the same rules: of p_limit events one is read, scored, and its points booked, then the
-- next. With p_limit 1 every event is its own transaction.
create table yardstick.queue (
  id           bigint generated always as identity primary key,
  user_id      uuid not null,
  event_type   text not null,
  event_time   timestamptz not null,
  nonce        text not null,
  points       int  not null,
  status       text not null default 'pending',
  trust_score  int,
  validated_at timestamptz
) with (fillfactor = 80);

create index queue_history on yardstick.queue (user_id, event_time);
create index queue_pending on yardstick.queue (id) where status = 'pending';

create table yardstick.transfers (
  id         bigint generated always as identity primary key,
  user_id    uuid not null,
  points     bigint not null,
  event_id   bigint not null unique,
  created_at timestamptz not null default now()
);

-- Copies, because the login that is measured may not read the real ones.
create table yardstick.trust_policies as table public.trust_policies;
create table yardstick.trust_rules as
select r.weight, (r.parameters ->> 'below')::numeric as below, r.mode
  from public.trust_rules as r where r.feature = 'seconds_to_nearest_event';

create function yardstick.validate(p_limit int)
returns int
language plpgsql volatile
as $$
declare
  v_event yardstick.queue;
  v_policy yardstick.trust_policies;
  v_seconds numeric;
  v_score int;
  v_decided int := 0;
begin
  select * into v_policy from yardstick.trust_policies where is_active;
  for v_event in
    select * from yardstick.queue where status = 'pending' order by id limit p_limit for update skip locked
  loop
    select min(abs(extract(epoch from o.event_time - v_event.event_time))) into v_seconds
      from yardstick.queue as o
     where o.user_id = v_event.user_id and o.id < v_event.id
       and o.event_time between v_event.event_time - interval '1 minute' and v_event.event_time + interval '1 minute';
    select greatest(0, least(100, v_policy.base_score + coalesce(sum(weight), 0))) into v_score
      from yardstick.trust_rules where mode = 'enforce' and v_seconds < below;
    if v_score >= v_policy.validate_at then
      update yardstick.queue set status = 'validated', trust_score = v_score, validated_at = now() where id = v_event.id;
      insert into yardstick.transfers (user_id, points, event_id) values (v_event.user_id, v_event.points, v_event.id);
      insert into yardstick.balances as b (user_id, points) values (v_event.user_id, v_event.points)
      on conflict (user_id) do update set points = b.points + excluded.points;
    else
      update yardstick.queue
         set status = case when v_score >= v_policy.review_at then 'pending_review' else 'rejected' end, trust_score = v_score
       where id = v_event.id;
    end if;
    v_decided := v_decided + 1;
  end loop;
  return v_decided;
end
$$;

grant select, insert, update on all tables in schema yardstick to tallybook_functions;
grant execute on all functions in schema yardstick to tallybook_functions;

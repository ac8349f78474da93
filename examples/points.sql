-- From an event to a coupon: a client submits, the server validates and awards, points buy, a repeated request changes
-- nothing. These are the calls that the functions make, as the roles that make them.

\set VERBOSITY terse
\set ada '''a0000000-0000-4000-8000-000000000001'''
\set coffee '''c0000000-0000-4000-8000-000000000001'''

-- What earns points is in a table; the client never says how many.
select event_type, points from public.points_rules where client_submittable and not is_honeypot order by points desc, event_type;

insert into public.coupon_templates (template_id, template_name, points_cost, coupon_value_type, coupon_value)
values (:coffee, 'A cup of coffee', 60, 'product', 'coffee');

-- Two things happened on Ada's telephone this morning. Each request bears a nonce of its own.
set role tallybook_functions;
select public.submit_points_event(:ada, 'workout', '2026-03-02 07:00', 'nonce-1') - 'id' as answer;
select public.submit_points_event(:ada, 'goal_achieved', '2026-03-02 08:00', 'nonce-2') - 'id' as answer;

-- The telephone lost the answer and asks again: same request, same answer, one event.
select public.submit_points_event(:ada, 'workout', '2026-03-02 07:00', 'nonce-1') - 'id' as answer;

-- An old nonce with another request, and a request from the future, are refused.
select public.submit_points_event(:ada, 'goal_achieved', '2026-03-02 07:00', 'nonce-1');
select public.submit_points_event(:ada, 'workout', '2026-03-02 09:11', 'nonce-3');
reset role;

select event_type, validation_status, points_delta from public.points_events order by event_time;
select available_points, pending_points from public.user_points_cache;

-- The worker decides. What it validates is posted to the ledger at the time at which it happened.
set role tallybook_worker;
select public.validate_points_events() -> 'validated' as validated;
reset role;

select event_type, validation_status, points_delta, trust_score from public.points_events order by event_time;
select available_points, pending_points, lifetime_earned from public.user_points_cache;
select effective_at, recorded_at, kind, amount, balance_after from ledger.statement where account = 'points' order by effective_at;

-- Ada buys the coffee. The function made a code and sends its keyed hash; the code is nowhere in the database.
set role tallybook_functions;
select public.redeem_coupon(:ada, :coffee, 'key-1', encode(sha256('first code'), 'hex'), 'k1', 'sealed first code')
         - 'coupon_id' as answer;

-- Again with the same key: the same coupon. With another key: she may have one, and could not pay for a second.
select public.redeem_coupon(:ada, :coffee, 'key-1', encode(sha256('second code'), 'hex'), 'k1', 'sealed second code')
         - 'coupon_id' as answer;
select public.redeem_coupon(:ada, :coffee, 'key-2', encode(sha256('third code'), 'hex'), 'k1', 'sealed third code');
reset role;

select status, issued_points_cost, plaintext_code from public.coupons;
select available_points, lifetime_earned, lifetime_spent from public.user_points_cache;

-- What does not agree, over all of it.
select * from ledger.discrepancies;

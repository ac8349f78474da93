-- The ledger by itself: accounts, postings, holds, a statement, the balance at any time.
-- One book belongs to one owner; here it is Ada's. Everything below is what a product's procedures do.

\set VERBOSITY terse
\set ada '''a0000000-0000-4000-8000-000000000001'''

-- An asset, in hundredths of a coin, and its accounts. One with a floor keeps a balance and never falls below it; one
-- without is where value comes from or goes to.
insert into ledger.assets (asset, scale) values ('coins', 2);
insert into ledger.chart_of_accounts (account, asset, floor, meaning) values
  ('mint',   'coins', null, 'where coins come from'),
  ('wallet', 'coins', 0,    'what somebody can spend'),
  ('shop',   'coins', null, 'where coins go');

-- Ada got 120 in January and 80 in February. Each posting carries an id, what caused it, and when it counts.
select position, outcome, from_available, to_available
  from ledger.post(array[
    row('10000000-0000-4000-8000-000000000001', :ada, 'mint', 'wallet', 120, 'award', 'example',
        'e0000000-0000-4000-8000-000000000001', '2026-01-15')::ledger.posting,
    row('10000000-0000-4000-8000-000000000002', :ada, 'mint', 'wallet', 80, 'award', 'example',
        'e0000000-0000-4000-8000-000000000002', '2026-02-15')::ledger.posting]);

-- The same posting again moves nothing. One that takes more than there is, is refused, and its neighbour is not.
select position, outcome, from_available
  from ledger.post(array[
    row('10000000-0000-4000-8000-000000000002', :ada, 'mint', 'wallet', 80, 'award', 'example',
        'e0000000-0000-4000-8000-000000000002', '2026-02-15')::ledger.posting,
    row('10000000-0000-4000-8000-000000000003', :ada, 'wallet', 'shop', 500, 'purchase', 'example',
        'e0000000-0000-4000-8000-000000000003', '2026-03-01')::ledger.posting,
    row('10000000-0000-4000-8000-000000000004', :ada, 'wallet', 'shop', 50, 'purchase', 'example',
        'e0000000-0000-4000-8000-000000000004', '2026-03-01')::ledger.posting])
 order by position;

-- Setting 100 aside: it stays in the balance and cannot be spent.
select amount, status, expires_at
  from ledger.hold(:ada, 'b0000000-0000-4000-8000-000000000001', 'wallet', 100, 'example',
                   'e0000000-0000-4000-8000-000000000005', '2026-03-02 10:00');
select balance, held, balance - held as available from ledger.accounts where book_id = :ada;
select ledger.hold(:ada, 'b0000000-0000-4000-8000-000000000002', 'wallet', 51, 'example',
                   'e0000000-0000-4000-8000-000000000006', '2026-03-02 10:00');

-- Spending 30 of it gives the other 70 back. A closed hold stays closed.
select outcome, from_available
  from ledger.settle(:ada, 'b0000000-0000-4000-8000-000000000001', 'shop', 30, 'purchase');
select ledger.release(:ada, 'b0000000-0000-4000-8000-000000000001');

-- Ada's statement.
select effective_at, kind, amount, balance_after
  from ledger.statement
 where book_id = :ada and account = 'wallet'
 order by effective_at, transfer_id;

-- What she had at the end of each month, and what the book knew of it before this morning.
select day::date, ledger.balance_as_of(:ada, 'wallet', day) as balance,
       ledger.balance_as_of(:ada, 'wallet', day, '2026-03-02 08:59') as known_before
  from unnest(array['2025-12-31', '2026-01-31', '2026-02-28', '2026-03-31']::timestamptz[]) as day;

-- Nobody rewrites the past.
update ledger.transfers set amount = 1000;

-- What does not agree. There is never a row here.
select * from ledger.discrepancies;

"""`ledger.post` beside pgledger: transfers among 1,000 accounts and among 10.

pgledger is other people's SQL, so it is not here: PGLEDGER_SQL names its file, or several in the
order in which they are loaded, separated as in PATH (its ulid function comes first). Without it
our own rate is measured all the same and the ratio is left out.
"""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from benchmarks.bench import Bench
from benchmarks.pgbench import pgbench
from benchmarks.rounds import Run, Sample
from benchmarks.stand import Database

CLIENTS = 20
VARIABLE = "PGLEDGER_SQL"
GOALS = {1_000: 2.0, 10: 4.0}
FUNDS = 1_000_000_000

# Two accounts that keep a balance are moved by every transfer, as in pgledger.
POST = """
\\set book random(1, {books})
\\set side random(0, 1)
select * from ledger.post(array[row(gen_random_uuid(), md5('book ' || :book)::uuid,
  case :side::int when 0 then 'bench.left' else 'bench.right' end,
  case :side::int when 0 then 'bench.right' else 'bench.left' end,
  1, 'bench', 'bench', gen_random_uuid(), null)::ledger.posting]);
"""
PGLEDGER = """
\\set one random(1, {accounts})
\\set step random(1, {accounts} - 1)
select * from pgledger_create_transfer(
  (select id from bench_accounts where number = :one),
  (select id from bench_accounts where number = 1 + (:one - 1 + :step) % {accounts}),
  1::money);
"""


def post(bench: Bench) -> None:
    """Single transfers, 20 clients, spread over many accounts and crowded on ten."""
    files = [Path(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if not files:
        bench.skipped["post"] = f"no pgledger to compare with: set {VARIABLE} to its SQL file"
    for accounts, goal in GOALS.items():
        name = f"post, {accounts:,} accounts"
        with bench.stand.database() as database:
            contenders = {"ledger.post": _ours(bench, database, accounts)}
            if files:
                contenders["pgledger"] = _theirs(database, accounts, files)
            database.settle()
            found = bench.compare(name, contenders)
            bench.check_books(name, database)
        if files:
            ratio = found.ratio("ledger.post", "pgledger")
            bench.row("post", f"ledger.{name}", "pgledger", ratio, goal=goal)


def _ours(bench: Bench, database: Database, accounts: int) -> Run:
    books = accounts // 2
    database.rows(
        "select count(*) from ledger.post(array(select row(gen_random_uuid(),"
        f" md5('book ' || n)::uuid, 'bench.source', side, {FUNDS}, 'bench', 'bench',"
        " gen_random_uuid(), null)::ledger.posting"
        f" from generate_series(1, {books}) as n"
        " cross join (values ('bench.left'), ('bench.right')) as s(side)))"
    )
    script = POST.format(books=books)
    total = "select count(*) from ledger.transfers where kind = 'bench'"

    def run(seconds: float) -> Sample:
        before = database.number(total)
        # As the role that owns upkeep's procedures, so that the policies are part of it.
        sample = pgbench(database.dsn("tallybook_upkeep"), script, clients=CLIENTS, seconds=seconds)
        written = database.number(total) - before
        bench.check(f"post: {written} transfers for {sample.count}", written == sample.count)
        return sample

    return run


def _theirs(database: Database, accounts: int, files: list[Path]) -> Run:
    with psycopg.connect(database.dsn()) as connection:
        for file in files:
            connection.execute(file.read_bytes())
        connection.execute(
            "create table bench_accounts as select n as number, a.id"
            f" from generate_series(1, {accounts}) as n"
            " cross join lateral pgledger_create_account('account ' || n, 'points') as a"
        )
        connection.execute("alter table bench_accounts add primary key (number)")
    script = PGLEDGER.format(accounts=accounts)
    return lambda seconds: pgbench(database.dsn(), script, clients=CLIENTS, seconds=seconds)

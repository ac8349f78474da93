"""The procedures beside hand-written minimal transactions, over pgbench.

Same login, same connection mode (prepared, unix socket), same number of clients, one row's effect
each. After every measure the rows must be as many as the transactions, and the book must agree.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count

import msgspec
import psycopg

from benchmarks import world
from benchmarks.bench import Bench
from benchmarks.pgbench import pgbench
from benchmarks.rounds import Run, Sample
from benchmarks.stand import Database

LOGIN = "tallybook_functions"
CLIENTS = 16
GATHERED = (64, 256)

USER = world.USER_ID.format(":user")

INSERT = f"""
insert into yardstick.events (user_id, event_type, event_time, nonce, points)
values ({USER}, 'workout', now(), gen_random_uuid()::text, 20)
on conflict (user_id, nonce) do nothing returning id, created_at;
"""
SUBMIT = f"""
select public.submit_points_event({USER}, 'workout', now(), gen_random_uuid()::text);
"""
CODE_HASH = "encode(sha256(uuid_send(gen_random_uuid())), 'hex')"
REDEEM_BY_HAND = f"""
select yardstick.redeem({USER}, '{world.TEMPLATE_ID}', gen_random_uuid()::text, {CODE_HASH}, 1);
"""
REDEEM = f"""
select public.redeem_coupon({USER}, '{world.TEMPLATE_ID}', gen_random_uuid()::text, {CODE_HASH},
  '00000000', repeat('s', 80), 'bench');
"""


def submit(bench: Bench) -> None:
    """Submitting one by one, and gathered as the functions do it, beside one minimal insert."""
    with bench.stand.database() as database:
        found = bench.compare(
            "submit",
            {
                "minimal insert": counted(bench, database, "yardstick.events", INSERT),
                "procedure": counted(bench, database, "public.points_events", SUBMIT),
                **{f"gathered {size}": gathered(bench, database, size) for size in GATHERED},
            },
        )
        bench.check_books("submit", database)
    for what, goal in (("procedure", 0.7), ("gathered 64", None), ("gathered 256", 2.3)):
        ratio = found.ratio(what, "minimal insert")
        bench.row("submit", f"submit, {what}", "minimal insert", ratio, goal=goal)


def redeem(bench: Bench) -> None:
    """The whole of a redemption beside a guarded update and two inserts."""
    with bench.stand.database() as database:
        found = bench.compare(
            "redeem",
            {
                "by hand": counted(bench, database, "yardstick.coupons", REDEEM_BY_HAND),
                "procedure": counted(bench, database, "public.coupons", REDEEM),
            },
        )
        bench.check_books("redeem", database)
    ratio = found.ratio("procedure", "by hand")
    bench.row("redeem", "redeem_coupon", "guarded update, two inserts", ratio, goal=0.65)


def validate(bench: Bench) -> None:
    """Judging the queue in sets of 1,000 beside row after row. Every turn takes so many events."""
    sets, rows = (10, 1_000) if bench.plan.rounds > 2 else (3, 300)
    turns = bench.plan.rounds + 1
    loops = rows // 100
    queued = turns * 3 * sets * 1_000 + 1_000
    with bench.stand.database() as database:
        with psycopg.connect(database.dsn()) as connection:
            world.fill_queue(connection, bench.stand.users, queued)
        database.settle()
        ours = "select public.validate_points_events(null, 1000);"
        by_row, by_loop = "select yardstick.validate(1);", "select yardstick.validate(100);"
        found = bench.compare(
            "validate",
            {
                "sets of 1,000": decided(database, "public.points_events", ours, 1, sets),
                "two workers": decided(database, "public.points_events", ours, 2, sets),
                "row at a time": decided(database, "yardstick.queue", by_row, 1, rows),
                "loop over 100": decided(database, "yardstick.queue", by_loop, 1, loops),
            },
        )
        bench.check_books("validate", database)
    for name, samples in found.samples.items():
        bench.check(f"validate: {name} found the queue empty", all(s.count for s in samples))
    ratio = found.ratio("sets of 1,000", "row at a time")
    bench.row("validate", "validation, sets of 1,000", "a transaction a row", ratio, goal=15)
    ratio = found.ratio("sets of 1,000", "loop over 100")
    bench.row("validate", "validation, sets of 1,000", "a loop over 100 rows", ratio)
    ratio = found.ratio("two workers", "sets of 1,000")
    bench.row("validate", "validation, two workers", "one worker", ratio)


def counted(bench: Bench, database: Database, table: str, script: str) -> Run:
    """A pgbench script whose every transaction must leave one row in `table`."""
    script = f"\\set user random(1, {bench.stand.users})\n{script}"

    def run(seconds: float) -> Sample:
        before = database.number(f"select count(*) from {table}")
        sample = pgbench(database.dsn(LOGIN), script, clients=CLIENTS, seconds=seconds)
        written = database.number(f"select count(*) from {table}") - before
        bench.check(f"{table}: {written} rows for {sample.count}", written == sample.count)
        return sample

    return run


def decided(database: Database, table: str, script: str, workers: int, calls: int) -> Run:
    """So many calls of a validation; counts the events that are not pending any more."""
    column = "validation_status" if table.startswith("public.") else "status"
    pending = f"select count(*) from {table} where {column} = 'pending'"

    def run(_seconds: float) -> Sample:
        before = database.number(pending)
        sample = pgbench(database.dsn(LOGIN), script, clients=workers, transactions=calls)
        events = before - database.number(pending)
        return Sample(rate=events / sample.seconds, count=events, seconds=sample.seconds)

    return run


def gathered(bench: Bench, database: Database, size: int) -> Run:
    """One connection that sends `size` submissions a call, as the gatherer's does.

    The calls are encoded before the clock starts: that is the function's work, not the database's.
    """
    with psycopg.connect(database.dsn()) as connection:
        users = world.user_ids(connection, bench.stand.users)
    numbers = count()
    query = "select o.answer, o.refusal from internal.submit_points_event_batch(%s::jsonb) as o"

    def run(seconds: float) -> Sample:
        with psycopg.connect(database.dsn(LOGIN), autocommit=True) as connection:
            done, spent = 0, 0.0
            while spent < seconds:
                calls = [_call(users, size, next(numbers)) for _ in range(20)]
                began = time.perf_counter()
                for call in calls:
                    rows = connection.execute(query, (call,), prepare=True).fetchall()
                    accepted = sum(refusal is None for _, refusal in rows)
                    bench.check(f"gathered: {accepted} of {size} accepted", accepted == size)
                    done += accepted
                spent += time.perf_counter() - began
        return Sample(rate=done / spent, count=done, seconds=spent)

    return run


def _call(users: Sequence[str], size: int, number: int) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return msgspec.json.encode(
        [
            {
                "user_id": users[(number * size + place) % len(users)],
                "event_type": "workout",
                "event_time": now,
                "nonce": f"gathered {size} {number} {place}",
                "request_id": "bench",
            }
            for place in range(size)
        ]
    ).decode()

"""Credits: charging a use, and reserving before a call and settling after it, beside hand-written
minimal transactions; one by one, gathered, and over HTTP beside the Deno peer.

Whoever writes by hand keeps a balance and two rows and nothing else: no lots, no ledger, no price
list, no sums by month, no replay. What is told is how much of their speed is left with all of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
import psycopg

from benchmarks import hosts, world
from benchmarks.bench import Bench
from benchmarks.procedures import GATHERED, LOGIN, USER, counted
from benchmarks.rounds import Run, Sample
from benchmarks.scene import scene
from benchmarks.stand import Database
from benchmarks.wrk import need_wrk

BY_HAND = "guarded update, two inserts"
BY_HAND_TWICE = "two such transactions"
MODEL = "gpt-4o"

DEDUCT = f"""
select public.deduct_credits({USER}, p_tokens_used => 1000, p_model => '{MODEL}');
"""
DEDUCT_BY_HAND = f"""
select yardstick.charge({USER}, 1000, '{MODEL}', 0.00375);
"""
RESERVE_AND_SETTLE = f"""
select public.reserve_credits({USER}, p_model => '{MODEL}', p_max_tokens => 1000)
  ->> 'reservation_id' as reservation \\gset
select public.settle_credits({USER}, :reservation, p_tokens_used => 500);
"""
BOTH_BY_HAND = f"""
select yardstick.reserve({USER}, '{MODEL}', 0.00375) as reservation \\gset
select yardstick.settle({USER}, :reservation, 500, 0.001875);
"""
CHARGED = "select count(*) from public.credit_transactions where starts_with(idempotency_key, %s)"


def charge(bench: Bench) -> None:
    """Charging one by one and gathered; then a reservation and its settlement, likewise."""
    with bench.stand.database() as database:
        world.give_credits(database.dsn(), bench.stand.users)
        database.settle()
        told, by_hand = "public.credit_transactions", "yardstick.charges"
        found = bench.compare(
            "deduct",
            {
                "by hand": counted(bench, database, by_hand, DEDUCT_BY_HAND),
                "procedure": counted(bench, database, told, DEDUCT),
                **{f"gathered {n}": gathered(bench, database, n, deducted) for n in GATHERED},
            },
        )
        for what in ("procedure", *(f"gathered {n}" for n in GATHERED)):
            ratio = found.ratio(what, "by hand")
            bench.row("credits", f"deduct_credits, {what}", BY_HAND, ratio)
        found = bench.compare(
            "reserve and settle",
            {
                "by hand": counted(bench, database, by_hand, BOTH_BY_HAND),
                "procedure": counted(bench, database, told, RESERVE_AND_SETTLE),
                **{f"gathered {n}": gathered(bench, database, n, settled) for n in GATHERED},
            },
        )
        for what in ("procedure", *(f"gathered {n}" for n in GATHERED)):
            ratio = found.ratio(what, "by hand")
            bench.row("credits", f"reserve and settle, {what}", BY_HAND_TWICE, ratio)
        first = bench.compare(
            "first deduct of a session", {"first": _first(database)}, rounds=10, seconds=0
        )
        milliseconds = first.median("first", lambda sample: sample.p50_ms)
        note = f"{milliseconds:.0f} ms" if milliseconds else ""
        bench.row("credits", "the first deduct_credits of a session", "", None, note=note)
        bench.check_books("credits", database)


def http(bench: Bench) -> None:
    """credits/deduct beside the Deno peer, which calls the same procedure."""
    need_wrk()
    body = '{"amount":0.01,"idempotency_key":"NONCE"}'
    with scene(bench) as here:
        world.give_credits(here.database.dsn(), bench.stand.users)
        here.database.settle()
        with hosts.tallybook(here.environ) as ours, hosts.deno(here.environ) as peer:
            # Every session plans its first call, which may take longer than a short round.
            for host in (ours, peer):
                here.loaded(host, "credits/deduct", body, CHARGED, 16)(5)
            for connections in bench.plan.connections:
                name = f"deduct over HTTP, connections: {connections}"
                found = bench.compare(
                    name,
                    {
                        "serve": here.loaded(ours, "credits/deduct", body, CHARGED, connections),
                        "deno": here.loaded(peer, "credits/deduct", body, CHARGED, connections),
                    },
                )
                bench.row("http-credits", name, "Deno peer", found.ratio("serve", "deno"))
        bench.check_books("http-credits", here.database)


Connection = psycopg.Connection[tuple[Any, ...]]
Timed = tuple[int, float]
"""How many were answered, and the seconds that the calls took."""


def deducted(connection: Connection, users: Sequence[str]) -> Timed:
    """One charge for each of these users."""
    requests = [{"user_id": user, "tokens_used": 1000, "model": MODEL} for user in users]
    rows, seconds = _call(connection, "deduct_credits", requests)
    return len(rows), seconds


def settled(connection: Connection, users: Sequence[str]) -> Timed:
    """A reservation for each, and then its settlement."""
    requests = [{"user_id": user, "model": MODEL, "max_tokens": 1000} for user in users]
    reserved, before = _call(connection, "reserve_credits", requests)
    requests = [
        {"user_id": user, "reservation_id": answer["reservation_id"], "tokens_used": 500}
        for user, answer in zip(users, reserved, strict=True)
    ]
    rows, after = _call(connection, "settle_credits", requests)
    return len(rows), before + after


def gathered(bench: Bench, database: Database, size: int, work: Any) -> Run:
    """One connection that sends `size` requests a call, as the gatherer's does.

    Encoding is not counted: that is the function's work, not the database's.
    """
    with psycopg.connect(database.dsn()) as connection:
        users = world.user_ids(connection, bench.stand.users)
    turns = count()

    def run(seconds: float) -> Sample:
        with psycopg.connect(database.dsn(LOGIN), autocommit=True) as connection:
            done, spent = 0, 0.0
            while spent < seconds:
                first = next(turns) * size
                some = [users[(first + place) % len(users)] for place in range(size)]
                answered, took = work(connection, some)
                bench.check(f"credits: {answered} of {size} answered", answered == size)
                done += answered
                spent += took
        return Sample(rate=done / spent, count=done, seconds=spent)

    return run


def _call(
    connection: Connection, procedure: str, requests: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], float]:
    """The answers in order of the requests, without those that were refused."""
    query = f"select o.position, o.answer from internal.{procedure}_batch(%s::jsonb) as o"
    payload = msgspec.json.encode(requests).decode()
    began = time.perf_counter()
    rows = connection.execute(query, (payload,), prepare=True).fetchall()
    seconds = time.perf_counter() - began
    return [answer for _, answer in sorted(rows, key=lambda row: row[0]) if answer], seconds


def _first(database: Database) -> Run:
    """What a session waits for once: nothing is planned or cached in it yet."""

    def run(_seconds: float) -> Sample:
        with psycopg.connect(database.dsn(LOGIN), autocommit=True) as connection:
            began = time.perf_counter()
            connection.execute(DEDUCT.replace(":user", "1"))
            seconds = time.perf_counter() - began
        return Sample(rate=1 / seconds, count=1, seconds=seconds, p50_ms=seconds * 1000)

    return run

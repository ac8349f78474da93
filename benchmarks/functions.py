"""The functions over HTTP beside the Deno peer, which calls the same procedures on the same rows.

Both run all the time and take turns. After every turn the rows that a run wrote are counted: all
that was answered must be there, and nothing else but what was still under way when wrk hung up.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import httpx

from benchmarks import hosts, world
from benchmarks.bench import Bench
from benchmarks.hosts import Host
from benchmarks.rounds import Run, Sample
from benchmarks.scene import Scene, scene, submission
from benchmarks.wrk import need_wrk

GOALS = {100: 2.0, 16: 1.3, 1: 0.95}
MEMORY_GOAL = 0.5
FRAMEWORK_GOAL = 8.0

SUBMITTED = "select count(*) from public.points_events where starts_with(nonce, %s)"
REDEEMED = (
    "select count(*) from public.coupons as c join public.points_events as e"
    " on e.user_id = c.issued_to and e.id = c.points_event_id where starts_with(e.nonce, %s)"
)
PENDING = "select count(*) from public.points_events where validation_status = 'pending'"


def submit(bench: Bench) -> None:
    """submit-points-event beside the peer under both token policies, and beside the framework."""
    need_wrk()
    with scene(bench) as here, ExitStack() as running:
        body = submission()
        ours = running.enter_context(hosts.tallybook(here.environ))
        peer = running.enter_context(hosts.deno(here.environ))
        for connections in bench.plan.connections:
            name = f"submit over HTTP, {_connections(connections)}"
            found = bench.compare(
                name,
                {
                    "serve": here.loaded(ours, "submit-points-event", body, SUBMITTED, connections),
                    "deno": here.loaded(peer, "submit-points-event", body, SUBMITTED, connections),
                },
            )
            goal = GOALS.get(connections)
            bench.row("http-submit", name, "Deno peer", found.ratio("serve", "deno"), goal=goal)
            p99 = found.ratio("serve", "deno", lambda sample: sample.p99_ms)
            bench.row("http-submit", f"{name}, p99", "Deno peer", p99, goal=1.0, lower=True)
            if connections == 100:
                _memory(bench, ours, peer)
        _strict(bench, here, ours, body)
        _framework(bench, here, body)
        bench.check_books("http-submit", here.database)


def redeem(bench: Bench) -> None:
    """redeem-coupon beside the peer; both make, hash and seal a code."""
    need_wrk()
    body = f'{{"template_id":"{world.TEMPLATE_ID}","idempotency_key":"NONCE"}}'
    with (
        scene(bench) as here,
        hosts.tallybook(here.environ) as ours,
        hosts.deno(here.environ) as peer,
    ):
        for connections in [number for number in bench.plan.connections if number > 1]:
            name = f"redeem over HTTP, {_connections(connections)}"
            found = bench.compare(
                name,
                {
                    "serve": here.loaded(ours, "redeem-coupon", body, REDEEMED, connections),
                    "deno": here.loaded(peer, "redeem-coupon", body, REDEEMED, connections),
                },
            )
            bench.row("http-redeem", name, "Deno peer", found.ratio("serve", "deno"))
        bench.check_books("http-redeem", here.database)


def validate(bench: Bench) -> None:
    """validate-points-event with `{}`: events a second, two callers, sets of 1,000."""
    calls = 8 if bench.plan.rounds > 2 else 3
    queued = 2 * calls * 1_000 * (bench.plan.rounds + 1)
    with (
        scene(bench, queued) as here,
        hosts.tallybook(here.environ) as ours,
        hosts.deno(here.environ) as peer,
    ):
        found = bench.compare(
            "validate over HTTP",
            {
                "serve": decided(here, ours, calls),
                "deno": decided(here, peer, calls),
            },
        )
        ratio = found.ratio("serve", "deno")
        bench.row("http-validate", "validate over HTTP, events a second", "Deno peer", ratio)
        bench.check_books("http-validate", here.database)


def decided(here: Scene, host: Host, calls: int) -> Run:
    """So many calls by two callers; the answers must tell of all the events that were decided."""

    async def work() -> int:
        headers = {"authorization": f"Bearer {here.service_token}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:

            async def caller(share: int) -> int:
                events = 0
                for _ in range(share):
                    url = f"http://127.0.0.1:{host.port}{host.prefix}validate-points-event"
                    answer = (await client.post(url, json={})).raise_for_status()
                    events += len(answer.json()["events"])
                return events

            return sum(await asyncio.gather(caller(calls // 2), caller(calls - calls // 2)))

    def run(_seconds: float) -> Sample:
        before = here.database.number(PENDING)
        began = time.perf_counter()
        events = asyncio.run(work())
        seconds = time.perf_counter() - began
        gone = before - here.database.number(PENDING)
        here.bench.check(f"validate: told of {events}, decided {gone}", events == gone > 0)
        return Sample(rate=events / seconds, count=events, seconds=seconds)

    return run


def _connections(number: int) -> str:
    return f"{number} connection{'s' if number > 1 else ''}"


def _strict(bench: Bench, here: Scene, ours: Host, body: str) -> None:
    """Every token verified: by both, and by the peer alone, which is how it is usually written."""
    environ, slug = here.environ, "submit-points-event"
    with (
        hosts.tallybook(environ, verify_every_token=True) as strict,
        hosts.deno(environ, verify_every_token=True) as peer,
    ):
        found = bench.compare(
            "submit over HTTP, every token verified",
            {
                "serve": here.loaded(ours, slug, body, SUBMITTED, 100),
                "serve, every token": here.loaded(strict, slug, body, SUBMITTED, 100),
                "deno, every token": here.loaded(peer, slug, body, SUBMITTED, 100),
            },
        )
    against = "Deno peer, every token verified"
    ratio = found.ratio("serve, every token", "deno, every token")
    bench.row("http-submit", "submit over HTTP, every token verified", against, ratio)
    ratio = found.ratio("serve", "deno, every token")
    bench.row("http-submit", "submit over HTTP, 100 connections", against, ratio)


def _framework(bench: Bench, here: Scene, body: str) -> None:
    """Our handler under functions-framework, beside the framework as it is usually used."""
    with (
        hosts.functions_framework(here.environ, ours=True) as ours,
        hosts.functions_framework(here.environ, ours=False) as usual,
    ):
        found = bench.compare(
            "submit under functions-framework",
            {
                "ours": here.loaded(ours, "", body, SUBMITTED, 100),
                "usual": here.loaded(usual, "", body, SUBMITTED, 100),
            },
        )
    bench.row(
        "http-submit",
        "submit under functions-framework",
        "its default way, sync, one call",
        found.ratio("ours", "usual"),
        goal=FRAMEWORK_GOAL,
    )


def _memory(bench: Bench, ours: Host, peer: Host) -> None:
    """Right after the load of 100 connections."""
    mine, theirs = ours.memory_mb(), peer.memory_mb()
    bench.raw["memory_mb"] = {"serve": mine, "deno": theirs}
    if mine and theirs:
        bench.row(
            "http-submit",
            "memory of a process",
            "Deno peer",
            mine / theirs,
            goal=MEMORY_GOAL,
            lower=True,
        )

"""A year's usage: loading it, and its statistics beside a plain group by over the events."""

from __future__ import annotations

import csv
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg

from benchmarks.bench import Bench
from benchmarks.rounds import Run, Sample
from benchmarks.stand import Database
from tallybook.history import UsageColumns, UsagePlan, import_file

BEGAN: Final = datetime(2025, 1, 1, tzinfo=UTC)
DAYS: Final = 365
GOAL_MS: Final = 300
GOAL: Final = 2.0
SEED: Final = 20250101
BATCH: Final = 1_000

# What is used, its provider, its price of 1,000 tokens in millionths of a credit, and how often.
MODELS: Final = (
    ("gpt-4o", "openai", 15_000, 20),
    ("claude-3.5-sonnet", "anthropic", 15_000, 18),
    ("gpt-4o-openrouter", "openrouter", 10_000, 6),
    ("claude-3.5-sonnet-openrouter", "openrouter", 8_000, 6),
    ("llama3-70b-deepinfra", "deepinfra", 3_000, 8),
    ("mixtral-8x22b-together", "together", 2_000, 9),
    ("qwen-72b-fireworks", "fireworks", 2_000, 7),
    ("llama3-70b-groq", "groq", 0, 12),
    ("mixtral-8x7b-hf", "huggingface", 0, 5),
    ("llama3-8b-local", "local", 0, 9),
)
POWER_LEVELS: Final = (("eco", 100), ("balanced", 250), ("precision", 1_000))
"""And what they multiply a price with, in thousandths."""

COLUMNS: Final = UsageColumns(
    model="model", provider="provider", power_level="power_level", success="success", key="id"
)


class Use(NamedTuple):
    """A line of the file: what a gateway's log tells of one call."""

    id: int
    user_id: UUID
    created_at: datetime
    provider: str
    model: str
    power_level: str
    tokens_used: int
    cost_micros: int
    success: bool


def year(events: int, users: int) -> Iterator[Use]:
    """So many uses in the order of their times, the same for the same numbers.

    A few users are busy and most are not; each has a power level they like; one call in fifty
    fails and costs nothing.
    """
    chance = random.Random(SEED)
    ids = user_ids(users)
    taste = [chance.choices(POWER_LEVELS, (3, 5, 2))[0] for _ in range(users)]
    weights = [model[3] for model in MODELS]
    step = DAYS * 86_400_000_000 // events
    for number in range(events):
        user = int(users * chance.random() ** 3)
        model, provider, price, _ = chance.choices(MODELS, weights)[0]
        level, multiplier = taste[user] if chance.random() < 0.8 else chance.choice(POWER_LEVELS)
        tokens = int(math.exp(chance.gauss(7, 1)))
        success = chance.random() >= 0.02
        cost = (tokens * price * multiplier + 500_000) // 1_000_000 if success else 0
        at = BEGAN + timedelta(microseconds=step * number + chance.randrange(step))
        yield Use(number, ids[user], at, provider, model, level, tokens, cost, success)


def user_ids(users: int) -> list[UUID]:
    """The users of a year, the busiest first."""
    chance = random.Random(SEED)
    return [UUID(int=chance.getrandbits(128), version=4) for _ in range(users)]


def write(path: Path, uses: Iterator[Use]) -> None:
    """The file, a CSV with a header."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        columns = [*Use._fields]
        columns[columns.index("cost_micros")] = "cost"
        writer.writerow(columns)
        for use in uses:
            cost = f"{use.cost_micros // 1_000_000}.{use.cost_micros % 1_000_000:06}"
            row = use._replace(created_at=use.created_at.isoformat(), cost_micros=cost)  # type: ignore[arg-type]
            writer.writerow(row)


def statistics(bench: Bench) -> None:
    """Load a year through the import path, fold it, then ask for it by every way there is."""
    events, users = bench.plan.usage_events, bench.plan.usage_users
    with bench.stand.database() as database, tempfile.TemporaryDirectory() as folder:
        _fund(database, user_ids(users))
        path = Path(folder) / "usage.csv"
        write(path, year(events, users))
        plan = UsagePlan(source="bench", columns=COLUMNS, connections=2)
        report = import_file(database.dsn("tallybook_operator"), path, plan)
        bench.check(f"usage: {report}", report.imported == events)
        began = time.perf_counter()
        while database.number("select (public.fold_usage() ->> 'folded')::int"):
            pass
        folded = time.perf_counter() - began
        database.settle()
        bench.raw["usage, loading"] = {
            "load_seconds": [report.seconds],
            "events_per_second": [report.lines_per_second],
            "fold_seconds": [folded],
        }
        what = f"{events:,} events: loaded in {report.seconds:.0f} s, folded in {folded:.1f} s"
        bench.row("usage", what, "-", None)
        for name, (procedure, plain) in _questions(database).items():
            _compare(bench, database, name, procedure, plain)
        bench.check_books("usage", database)


def _fund(database: Database, users: list[UUID]) -> None:
    """Give everybody credits, a few to most and many to some: there are balances to distribute."""
    for first in range(0, len(users), BATCH):
        database.rows(
            "select count(*) from internal.move_credits(array(select internal.credit_move("
            " u.id, round(exp(u.n * 14.0 / %s)::numeric, 6), 'bonus')"
            " from (select distinct on (id) id, n + %s as n from unnest(%s::uuid[])"
            " with ordinality as x(id, n)) as u))",
            len(users),
            first,
            users[first : first + BATCH],
        )


def _questions(database: Database) -> dict[str, tuple[str, str]]:
    """What is asked, the procedure that answers it, and the plain query that would."""
    [(user,)] = database.rows(
        "select user_id from public.usage_rollups group by 1 order by sum(events) desc limit 1"
    )
    sums = "count(*), count(*) filter (where not success), sum(tokens_used), sum(cost)"
    events = "from public.usage_events"
    months = "date_trunc('month', created_at at time zone 'UTC')"
    return {
        "by month and model": (
            "select public.credit_analytics_system(null)",
            f"select {months}, provider, model, {sums} {events} group by 1, 2, 3",
        ),
        "of the busiest user by model": (
            f"select public.usage_statistics('{user}', 'model')",
            f"select model, {sums} {events} where user_id = '{user}' group by 1",
        ),
        "of the busiest user by month, cut at both ends": (
            f"select public.usage_statistics('{user}', 'month', '2025-01-15Z', '2025-12-15Z')",
            f"select {months}, {sums} {events} where user_id = '{user}'"
            " and created_at >= '2025-01-15Z' and created_at < '2025-12-15Z' group by 1",
        ),
        "of the top spenders of a month": (
            "select public.credit_analytics_top_spenders(null, '2025-11-01', 100)",
            f"select user_id, {sums} {events} where created_at >= '2025-11-01Z'"
            " and created_at < '2025-12-01Z' group by 1 order by 5 desc limit 100",
        ),
        "of balances": (
            "select public.credit_analytics_distribution(null)",
            "select tier, count(*), sum(balance) from public.user_credits group by 1",
        ),
    }


def _compare(bench: Bench, database: Database, name: str, procedure: str, plain: str) -> None:
    found = bench.compare(
        f"usage, {name}",
        {
            "procedure": _asked(database, "tallybook_functions", procedure),
            "group by": _asked(database, "postgres", plain),
        },
    )
    ms = 1000 / (found.median("procedure") or math.nan)
    what = f"statistics {name}: {ms:.1f} ms"
    ratio = found.ratio("procedure", "group by")
    bench.check(f"{what}, and not under {GOAL_MS}", ms < GOAL_MS)
    goal = GOAL if name == "by month and model" else None
    bench.row("usage", what, "a plain group by", ratio, goal=goal)


def _asked(database: Database, role: str, query: str) -> Run:
    def run(seconds: float) -> Sample:
        with psycopg.connect(database.dsn(role), autocommit=True) as connection:
            ask: Callable[[], Any] = connection.execute(query).fetchall
            ask()
            count, began = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - began) < seconds:
                connection.execute(query).fetchall()
                count += 1
        return Sample(rate=count / elapsed, count=count, seconds=elapsed)

    return run

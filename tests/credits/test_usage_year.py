"""A year of usage, loaded as the benchmark loads a million uses: every number is exact."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest

from benchmarks.usage import COLUMNS, MODELS, Use, user_ids, write, year
from tallybook.history import UsagePlan, UsageReport, import_file
from tests.credits.meter import Meter

EVENTS, USERS = 20_000, 200
LOADING_SECONDS_MAX = 60
ANSWER_SECONDS_MAX = 0.3


@pytest.fixture(scope="module")
def uses() -> list[Use]:
    return list(year(EVENTS, USERS))


@pytest.fixture
def file(tmp_path: Path, uses: list[Use]) -> Path:
    path = tmp_path / "usage.csv"
    write(path, iter(uses))
    return path


def load(meter: Meter, file: Path) -> UsageReport:
    plan = UsagePlan(source="year", columns=COLUMNS, connections=2)
    return import_file(meter.world.database.dsn("tallybook_operator"), file, plan)


def micros(credits: object) -> int:
    return int(D(str(credits)) * 10**6)


def test_the_generator_is_as_it_says(uses: list[Use]) -> None:
    assert uses[:100] == list(year(EVENTS, USERS))[:100]
    assert [use.created_at for use in uses] == sorted(use.created_at for use in uses)
    assert {use.user_id for use in uses} <= set(user_ids(USERS))
    assert {use.model for use in uses} == {model[0] for model in MODELS}
    assert {use.created_at.month for use in uses} == set(range(1, 13))


def test_a_year_is_loaded_folded_and_asked_for(meter: Meter, file: Path, uses: list[Use]) -> None:
    report = load(meter, file)
    assert (report.lines, report.imported, report.bad) == (EVENTS, EVENTS, 0)
    assert report.seconds < LOADING_SECONDS_MAX
    assert report.tokens == sum(use.tokens_used for use in uses)
    assert micros(report.cost) == sum(use.cost_micros for use in uses)
    while meter.fold():
        pass
    assert meter.faults() == []
    meter.world.admin.execute("analyze")

    began = time.perf_counter()
    system = meter.bank.call("credit_analytics_system", user_id=None)["usage"]
    assert time.perf_counter() - began < ANSWER_SECONDS_MAX
    months: Counter[str] = Counter()
    models: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    spent: Counter[Any] = Counter()
    mine: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    busiest = user_ids(USERS)[0]
    for use in uses:
        months[use.created_at.strftime("%Y-%m")] += use.cost_micros
        spent[use.user_id, use.created_at.month] += use.cost_micros
        told = (1, not use.success, use.tokens_used, use.cost_micros)
        of_whom = [models] + [mine] * (use.user_id == busiest)
        for sums in of_whom:
            sums[use.model] = [a + b for a, b in zip(sums[use.model], told, strict=True)]
    assert {row["month"]: micros(row["cost"]) for row in system["by_month"]} == months
    assert {row["model"]: sums_of(row) for row in system["by_model"]} == models

    began = time.perf_counter()
    answer = meter.statistics(busiest, "model")
    assert time.perf_counter() - began < ANSWER_SECONDS_MAX
    assert {row["model"]: sums_of(row) for row in answer["groups"]} == mine

    november = {user: cost for (user, month), cost in spent.items() if month == 11}
    top = meter.bank.call(
        "credit_analytics_top_spenders", user_id=None, month="2025-11-09", limit=20
    )
    best = sorted(november.items(), key=lambda item: (-item[1], str(item[0])))[:20]
    assert [(row["user_id"], micros(row["spent"])) for row in top["spenders"]] == [
        (str(user), cost) for user, cost in best
    ]


def test_the_year_again_is_known(meter: Meter, tmp_path: Path, uses: list[Use]) -> None:
    path = tmp_path / "usage.csv"
    write(path, iter(uses[:3000]))
    assert load(meter, path).imported == 3000
    write(path, iter(uses[:4000]))
    again = load(meter, path)
    assert (again.imported, again.known) == (1000, 3000)


def sums_of(row: dict[str, Any]) -> list[int]:
    return [row["events"], row["failures"], row["tokens"], micros(row["cost"])]

"""The harness measures: one tiny round, in the shape that its readers expect."""

import msgspec
import pytest

from benchmarks import report
from benchmarks.__main__ import document, measure
from benchmarks.bench import Bench, Plan, Row
from benchmarks.pgbench import Missing, pgbench, program
from benchmarks.rounds import Comparison, Sample, interleaved

TINY = Plan(rounds=1, seconds=1, users=300)


def test_a_round_yields_ratios_and_every_number():
    try:
        program()
    except Missing as missing:
        pytest.skip(str(missing))
    bench, machine = measure(TINY, ["redeem"])
    found = msgspec.json.decode(msgspec.json.encode(document(bench, machine)))

    assert found["faults"] == []
    [row] = found["rows"]
    assert (row["name"], row["goal"]) == ("redeem", 0.65)
    assert row["ratio"] > 0
    assert row["ok"] is (row["ratio"] >= row["goal"])
    assert {name: len(samples) for name, samples in found["raw"]["redeem"].items()} == {
        "by hand": 1,
        "procedure": 1,
    }
    assert all(sample["count"] > 0 for [sample] in found["raw"]["redeem"].values())
    assert found["machine"]["cpus"] > 0
    assert found["plan"]["rounds"] == 1
    assert row["what"] in report.markdown(bench, machine)


def test_a_year_of_usage_is_loaded_and_asked_for():
    plan = Plan(rounds=1, seconds=0.1, users=10, usage_events=2_000, usage_users=50)
    bench, _ = measure(plan, ["usage"])
    assert bench.faults == []
    assert [row.ratio is None for row in bench.rows] == [True, *[False] * 5]
    assert bench.rows[0].what.startswith("2,000 events: loaded in ")


def test_tenants_are_loaded_and_asked_for():
    plan = Plan(rounds=1, seconds=0.1, users=10, tenants=4, wallet_rows=2_000)
    bench, _ = measure(plan, ["tenants"])
    assert bench.faults == []
    assert bench.rows[0].what.startswith("4 tenants of 200, 2,000 wallet rows: loaded in ")
    assert len(bench.rows) == 14


def test_ratios_are_paired_by_round():
    # The machine is slower in every next round; the ratio is the same throughout.
    comparison = Comparison(
        {
            "one": [sample(200), sample(100), sample(20)],
            "two": [sample(100), sample(50), sample(10)],
        }
    )
    assert comparison.ratio("one", "two") == 2


def test_contenders_take_turns_and_the_first_changes():
    order: list[str] = []

    def run(name: str):
        def turn(_seconds: float) -> Sample:
            order.append(name)
            return sample(1)

        return turn

    interleaved({"a": run("a"), "b": run("b")}, rounds=2, seconds=1)
    assert order == ["a", "b", "a", "b", "b", "a"]


@pytest.mark.parametrize(
    ("ratio", "goal", "lower", "ok"),
    [
        (2.0, 2.0, False, True),
        (1.9, 2.0, False, False),
        (0.5, 0.5, True, True),
        (0.6, 0.5, True, False),
        (0.6, None, False, None),
        (None, 2.0, False, None),
    ],
)
def test_a_goal_is_met_from_its_side(ratio, goal, lower, ok):
    assert Row("name", "what", "against", ratio, goal=goal, lower=lower).ok is ok


def test_work_that_fails_measures_nothing(postgres):
    with pytest.raises(RuntimeError, match="division by zero"):
        pgbench(postgres.dsn(), "select 1 / 0;", clients=1, transactions=1)


def test_a_claim_that_does_not_hold_is_a_fault():
    bench = Bench(stand=None, plan=TINY)  # type: ignore[arg-type]
    bench.check("2 rows for 2", True)
    bench.check("1 rows for 2", False)
    assert bench.results()["faults"] == ["1 rows for 2"]


def sample(rate: float) -> Sample:
    return Sample(rate=rate, count=1, seconds=1)

"""`tallybook report` prints the runbook's reports, and says which there are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.cli.conftest import Run
from tests.world import World


def test_it_lists_every_report_there_is(operate: Run, world: World) -> None:
    listed = operate("report", "--json").json["reports"]
    there = world.rows(
        "select substr(proname, 8) as name from pg_proc"
        " where pronamespace = 'public'::regnamespace and proname like 'report_%%' order by 1"
    )
    assert [row["report"] for row in listed] == [row["name"] for row in there]
    assert all(row["answers"] for row in listed)
    assert operate("report").code == 0


def test_every_report_is_printed(operate: Run, world: World) -> None:
    user = world.user(points=500)
    world.submit(user)
    world.redeem(user, world.template())
    for row in operate("report", "--json").json["reports"]:
        given = {"--since": "24h", "--user": str(user), "--older-than": "1s", "--limit": "5"}
        given["--tenant"] = str(user)
        options = [text for name in row["options"] for text in (name, given[name])]
        assert operate("report", row["report"], *options).code == 0, row
        assert operate("report", row["report"], *options, "--json").json["rows"] is not None


def test_since_is_a_duration_or_a_time(operate: Run, world: World) -> None:
    world.freeze()
    world.user(points=100)
    before = (world.now() - timedelta(hours=1)).isoformat()
    after = (world.now() + timedelta(hours=1)).isoformat()
    for report, since, rows in (
        ("events-by-status", "1h", 1),
        ("events_by_status", before, 1),
        ("events-by-status", after, 0),
    ):
        assert len(operate("report", report, "--since", since, "--json").json["rows"]) == rows
    for since, events in (("2h", 1), (before, 1), (after, 0)):
        (row,) = operate("report", "damage", "--since", since, "--json").json["rows"]
        assert row["events"] == events


def test_counts_are_drawn(operate: Run, world: World) -> None:
    world.user(points=100)
    assert "█" in operate("report", "events-by-status").output


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-report",),
        ("damage",),
        ("balance",),
        ("totals", "--since", "1h"),
        ("queue", "--limit", "5"),
        ("events-by-status", "--since", "soon"),
    ],
)
def test_what_does_not_fit_is_code_2(operate: Run, arguments: tuple[str, ...]) -> None:
    assert operate("report", *arguments).code == 2

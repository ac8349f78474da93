"""`tallybook history` shows a user's events a page at a time."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from tests.cli.conftest import Run
from tests.world import World


def test_the_latest_comes_first_and_pages_leave_nothing_out(operate: Run, world: World) -> None:
    user, at = world.user(), world.now() - timedelta(hours=1)
    # Nearer to one another than a table shows.
    events = [
        world.submit(user, at=at - number * timedelta(milliseconds=10))["id"] for number in range(5)
    ]
    seen: list[str] = []
    page = operate("history", str(user), "--limit", "2", "--json").json
    while True:
        seen += [event["id"] for event in page["events"]]
        if not page["next_before"]:
            break
        onward = ("--before", page["next_before"], "--before-id", page["next_before_id"])
        page = operate("history", str(user), "--limit", "2", *onward, "--json").json
    assert seen == events


def test_ids_are_whole_in_a_terminal_of_100_columns(operate: Run, world: World) -> None:
    user = world.user(points=100)
    event = world.submit(user, event_type="activity_completion")["id"]
    done = operate("history", str(user), env={"COLUMNS": "100"})
    assert event in done.output
    assert max(map(len, done.output.splitlines())) <= 110


def test_somebody_unknown_has_none(operate: Run) -> None:
    assert operate("history", str(uuid4()), "--json").json["events"] == []
    assert operate("history", str(uuid4())).code == 0
    assert operate("history", str(uuid4()), "--before", "yesterday").code == 2

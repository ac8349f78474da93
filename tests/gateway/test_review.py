"""review/* over HTTP: what the rules left to a person is decided by one, once, and for a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tallybook import logs
from tests.conftest import Database
from tests.gateway.client import Client, administrator, event, service
from tests.stack import Stack, running
from tests.world import World


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def user(stack: Stack) -> Client:
    return Client(stack)


@pytest.fixture
def admin(stack: Stack, world: World) -> Client:
    return administrator(stack, world)


def suspect(user: Client, world: World) -> str:
    """A workout five seconds after another: the rules leave it to a person."""
    at = datetime.now(UTC) - timedelta(hours=1)
    for seconds in (0, 5):
        last = user.submit(event(event_time=(at + timedelta(seconds=seconds)).isoformat()))
        world.validate()
    event_id: str = last.json()["id"]
    assert world.status(event_id) == "pending_review"
    return event_id


def decide(client: Client, decision: str, event_id: str, **fields: Any) -> httpx.Response:
    body = {"event_id": event_id, "reason": "Two phones, one run.", **fields}
    return client.post(f"/functions/v1/review/{decision}", body, x_request_id="req-7")


def outcome(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("code")


def test_an_approved_event_earns_its_points(user: Client, admin: Client, world: World) -> None:
    event_id = suspect(user, world)
    answer = decide(admin, "approve", event_id, label="false_positive")
    assert answer.status_code == 200
    said = answer.json()
    assert (said["decision"], said["validation_status"]) == ("approved", "validated")
    assert (said["points_awarded"], said["reviewed_by"]) == (20, f"{admin.user}@example.com")
    assert world.cache(user.user) == (40, 0, 40, 0)
    (row,) = world.rows("select decision, reason, label, request_id from points_reviews")
    assert tuple(row.values()) == ("approved", "Two phones, one run.", "false_positive", "req-7")
    assert world.count("audit_log", "request_id = 'req-7' and subject_id = %s", event_id) == 1


def test_a_rejected_event_earns_nothing(user: Client, admin: Client, world: World) -> None:
    event_id = suspect(user, world)
    said = decide(admin, "reject", event_id, label="confirmed_fraud").json()
    assert (said["decision"], said["points_awarded"]) == ("rejected", 0)
    assert world.status(event_id) == "rejected"
    assert world.cache(user.user) == (20, 0, 20, 0)


def test_who_decides_the_same_again_is_told_the_same(
    stack: Stack, user: Client, admin: Client, world: World
) -> None:
    event_id = suspect(user, world)
    first, again = (decide(admin, "approve", event_id) for _ in range(2))
    assert "idempotent-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert outcome(decide(admin, "reject", event_id)) == (409, "already_reviewed")
    other = administrator(stack, world)
    assert outcome(decide(other, "approve", event_id)) == (409, "already_reviewed")
    assert world.cache(user.user) == (40, 0, 40, 0)


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_only_administrators_decide_and_never_what_is_theirs(
    stack: Stack, user: Client, admin: Client, world: World, decision: str
) -> None:
    event_id = suspect(user, world)
    former = administrator(stack, world, active=False)
    for client in (user, Client(stack), former):
        assert outcome(decide(client, decision, event_id)) == (403, "forbidden")
    own = suspect(admin, world)
    assert outcome(decide(admin, decision, own)) == (403, "own_event")
    assert {world.status(each) for each in (event_id, own)} == {"pending_review"}


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_decision_has_a_reason(user: Client, admin: Client, world: World, decision: str) -> None:
    event_id = suspect(user, world)
    blank = decide(admin, decision, event_id, reason="  ")
    assert outcome(blank) == (400, "reason_required")
    assert blank.json()["details"] == {"path": "$.reason"}
    unknown = decide(admin, decision, str(uuid4()))
    assert outcome(unknown) == (404, "event_not_found")
    assert unknown.json()["details"] == {"path": "$.event_id"}
    assert world.status(event_id) == "pending_review"


def test_a_program_decides_in_its_own_name(
    stack: Stack, user: Client, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    event_id = suspect(user, world)
    answer = decide(service(stack), "approve", event_id)
    assert (answer.status_code, answer.json()["reviewed_by"]) == (200, "tallybook_functions")
    logs.flush()
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line[0] == "{"]
    (line,) = [line for line in found if line["event"] == "points.event.validated"]
    assert (line["event_id"], line["points_awarded"]) == (event_id, 20)
    assert (line["reviewed_by"], line["request_id"]) == ("tallybook_functions", "req-7")

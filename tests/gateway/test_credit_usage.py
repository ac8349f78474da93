"""Statistics and analytics over HTTP: whose they are, of which time, and who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.credits.bank import Bank
from tests.credits.meter import Meter
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.world import World

USAGE = "/api/v1/credits/usage"
ANALYTICS = "/api/v1/admin/credits/analytics"


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def user(stack: Stack, world: World) -> Client:
    """Somebody who used something on three days of two months."""
    user, meter = Client(stack), Meter(Bank(world))
    for month, day, cost, model in ((5, 31, 1, "a"), (6, 1, 2, "b"), (6, 2, 4, "b")):
        at = datetime(2025, month, day, 23, tzinfo=UTC)
        told = {"model": model, "provider": "p", "power_level": "eco", "created_at": at}
        meter.use(user.user, cost, **told)
    return user


def get(client: Client, path: str, **query: Any) -> httpx.Response:
    return httpx.get(
        f"{client.stack.url}{path}", params=query, headers=client.credentials or {}, timeout=20
    )


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def test_a_period_is_days_the_last_included_or_times(user: Client) -> None:
    for query, cost in (
        ({}, 7.0),
        ({"start_date": "2025-06-01"}, 6.0),
        ({"end_date": "2025-06-01"}, 3.0),
        ({"start_date": "2025-06-01", "end_date": "2025-06-01"}, 2.0),
        ({"end_date": "2025-06-01T23:00:00Z"}, 1.0),
    ):
        answer = ok(get(user, f"{USAGE}/stats", **query))
        assert (answer["total"]["cost"], answer["groups"]) == (cost, []), query
    said = get(user, f"{USAGE}/stats", start_date="2025-06-02", end_date="2025-05-31").json()
    assert (said["code"], said["details"]["path"]) == ("invalid_body", "$.end_date")


def test_the_address_says_by_what(user: Client) -> None:
    for name, key, groups in (
        ("by-model", "model", ["b", "a"]),
        ("by-provider", "provider", ["p"]),
        ("by-power-level", "power_level", ["eco"]),
    ):
        answer = ok(get(user, f"{USAGE}/{name}"))
        assert [group[key] for group in answer["groups"]] == groups
    months = ok(get(user, f"{USAGE}/stats", group_by="month"))["groups"]
    assert [group["month"] for group in months] == ["2025-05", "2025-06"]
    assert get(user, f"{USAGE}/stats", group_by="user_id").status_code == 400
    assert get(user, f"{USAGE}/by-model", group_by="month").status_code == 400


def test_usage_is_ones_own_and_a_program_says_whose(user: Client, stack: Stack) -> None:
    program = service(stack)
    path = f"{USAGE}/by-model"
    assert ok(get(program, path, user_id=str(user.user))) == ok(get(user, path))
    assert get(program, path).status_code == 400
    assert get(user, path, user_id=str(uuid4())).status_code == 403
    assert get(Client(stack, credentials={}), path).status_code == 401
    assert ok(get(Client(stack), path))["groups"] == []


def test_analytics_are_for_administrators_and_programs(
    user: Client, stack: Stack, world: World
) -> None:
    admin, program = administrator(stack, world), service(stack)
    for name in ("system", "top-spenders", "distribution"):
        assert ok(get(program, f"{ANALYTICS}/{name}")) == ok(get(admin, f"{ANALYTICS}/{name}"))
        assert get(user, f"{ANALYTICS}/{name}").status_code == 403
    system = ok(get(admin, f"{ANALYTICS}/system", start_date="2025-06-01", end_date="2025-06-30"))
    assert (system["from"], system["to"], system["spent"]) == ("2025-06-01", "2025-06-30", 6.0)
    top = ok(get(admin, f"{ANALYTICS}/top-spenders", month="2025-05", limit=1))
    assert [row["user_id"] for row in top["spenders"]] == [str(user.user)]
    for query in ({"month": "2025-13"}, {"month": "2025-05-01"}, {"limit": 0}):
        assert get(admin, f"{ANALYTICS}/top-spenders", **query).status_code == 400

"""points-schedule over HTTP: a user learns what of theirs expires when, and nothing of others'."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.gateway.client import Client
from tests.stack import Stack, running
from tests.world import NOW, World


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


def lots(client: Client) -> list[Any]:
    answer = client.post("/functions/v1/points-schedule", {})
    assert answer.status_code == 200
    (name,) = answer.json()
    assert name == "lots"
    return [
        (datetime.fromisoformat(lot["expires_at"]), lot["points"]) for lot in answer.json()[name]
    ]


def test_what_was_earned_first_expires_first(stack: Stack, world: World) -> None:
    world.freeze()
    world.operator.execute("update points_programs set expires_after_days = 90")
    user, other = Client(stack, user=world.user(points=100)), Client(stack, user=world.user())
    world.pass_time(timedelta(days=1))
    world.award(user.user, 30)
    due = NOW + timedelta(days=90)
    assert lots(user) == [(due, 100), (due + timedelta(days=1), 30)]
    assert lots(other) == []
    # What is spent is taken from what was earned first.
    user.redeem(world.template(cost=80))
    assert lots(user) == [(due, 20), (due + timedelta(days=1), 30)]


def test_where_nothing_expires_the_list_is_empty(stack: Stack, world: World) -> None:
    assert lots(Client(stack, user=world.user(points=100))) == []

"""The clock stands still while events are judged."""

from __future__ import annotations

import pytest

from tests.world import World


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()

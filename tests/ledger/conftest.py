"""A book with accounts of its own, so that the ledger is tried without knowing any product."""

from __future__ import annotations

import pytest

from tests.ledger.book import Book, draw_chart
from tests.world import World


@pytest.fixture
def book(world: World) -> Book:
    """An empty book. The clock stands still."""
    world.freeze()
    draw_chart(world)
    return Book(world)

"""The size of a run, and the seed that everything is drawn from.

Each number is set by an environment variable, for the long run: TALLYBOOK_RELIABILITY_SEED, _KILLS,
_OPERATIONS, _DOUBTS and _ROUNDS.
"""

from __future__ import annotations

import os
import secrets

import pytest

from tests.reliability.operations import COSTS
from tests.world import World


def size(name: str, otherwise: int) -> int:
    """A number of the run: the environment's, or the one that fits into CI."""
    return int(os.environ.get(f"TALLYBOOK_RELIABILITY_{name}", otherwise))


@pytest.fixture
def seed() -> str:
    """Printed, so that a run that failed can be drawn again."""
    drawn = os.environ.get("TALLYBOOK_RELIABILITY_SEED") or secrets.token_hex(4)
    print(f"TALLYBOOK_RELIABILITY_SEED={drawn}")
    return drawn


def templates(world: World) -> dict[str, int]:
    """Coupons on offer, as often as somebody has the points: their ids and what they cost."""
    return {str(world.template(cost=cost, limit=None)): cost for cost in COSTS}
